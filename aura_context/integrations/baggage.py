"""What is bound here, in the ``baggage`` header: https://www.w3.org/TR/baggage/."""

from __future__ import annotations

import re

from collections.abc import Iterable, Mapping
from contextlib import suppress
from email.header import Header
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import quote, unquote

from aura_context import Snapshot, VarContext

from ._named import Contexts, described, refuse_no_mapping, shown


__all__ = ["Headers", "MutableHeaders", "Pairs", "extract", "inject"]


class Headers(Protocol):
    """Headers that can be read, of any library."""

    def items(self) -> Iterable[tuple[Any, Any]]:
        """Return pairs of name and value."""
        ...


class MutableHeaders(Headers, Protocol):
    """Headers that can be changed."""

    def __setitem__(self, name: str, value: str, /) -> None: ...

    def __delitem__(self, name: str, /) -> None: ...


Pairs: TypeAlias = Iterable[tuple[str | bytes, str | bytes]]
"""Headers as pairs of name and value, as some servers and queues give them."""


# At least what the specification asks for, and just what OpenTelemetry enforces.
_MEMBERS, _MEMBER_BYTES, _BYTES = 180, 4096, 8192

# The specification's grammar, with a `%` in a value only where it encodes. What has
# been read is never read again, so the time it takes is linear. Groups are atomic and
# not possessive, as those matched wrongly before CPython 3.11.5:
# https://github.com/python/cpython/issues/106052
_KEY: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # a token, RFC 7230, section 3.2.6
_OWS: Final = r"[ \t]*+"
_MEMBER: Final = re.compile(
    rf"""(?x) (?P<key>{_KEY}) {_OWS} = {_OWS}
    (?P<value> (?> (?: [!\#$&-+\--:<-\[\]-~] | %[0-9A-Fa-f]{{2}} )* ) )
    (?> (?: {_OWS} ; {_OWS} {_KEY} (?> {_OWS} = {_OWS} [!\#-+\--:<-\[\]-~]*+ )? )* )"""
)


def inject(headers: MutableHeaders, contexts: Contexts) -> None:
    """Write what is bound here into the ``baggage`` header of a request to send.

    Members with other names are kept, with their properties. A member with one of the
    names given is replaced, or removed if the variable has its default. Several
    ``baggage`` headers become one.

    Args:
        headers: A dict, or the headers of any library, if they can be changed. The case
            of their names does not matter. If there is an error, they stay unchanged.
        contexts: The context class to write for each name.

    Raises:
        TypeError: If these are not headers, or cannot be changed; if a value is not a
            str; or if a class binds nothing or is not carried.
        ValueError: If a name is not a token (:rfc:`7230`), a value has no UTF-8, or
            it does not fit: 180 members, 4096 bytes each, 8192 bytes in all.

    Example:
        >>> from aura_context import PlanContext, plan_context
        >>> headers = {"baggage": "user=alice"}
        >>> with plan_context("daily sales"):
        ...     inject(headers, {"plan_name": PlanContext})
        >>> headers
        {'baggage': 'user=alice,plan_name=daily%20sales'}
    """
    _check(contexts)
    found = _found(_writable(headers), str)
    written = [
        _member(name, cls.var.get()) for name, cls in contexts.items() if cls.is_bound()
    ]
    kept = [
        member
        for _, line in found
        for member in _members(line)
        if member.partition("=")[0].rstrip(" \t") not in contexts
    ]
    header = ",".join(kept + written)
    if written:  # else it can only have become shorter
        _fit("members of baggage", len(kept + written), _MEMBERS)
        _fit("bytes of baggage", _size(header), _BYTES)
    for name, _ in found:
        # Where case or number do not count, the first has taken the others along.
        with suppress(KeyError):
            del headers[name]
    if header:
        headers[found[0][0] if found else "baggage"] = header


def extract(headers: Headers | Pairs, accept: Contexts) -> Snapshot:
    """Read the ``baggage`` header of a request, which anyone may have sent.

    No header raises an error. Members that are malformed, not accepted, longer than
    4096 bytes or refused by their class are dropped, and so are members after the
    180th. Nothing is read from a header longer than 8192 bytes. If a name occurs more
    than once, the last member that was not dropped counts. Properties are ignored.

    Args:
        headers: A dict, the headers of any library, or an iterable of pairs such as
            an ASGI scope's ``headers``, gRPC's metadata or Kafka's headers. Names and
            values are text, or bytes in Latin-1. The case of names does not matter.
        accept: The context class to read for each name. There is no default, because
            only you know which names to trust.

    Raises:
        TypeError: If these are not headers, or a class binds nothing or is not carried.
        ValueError: If a name is not a token (:rfc:`7230`).

    Example:
        >>> from aura_context import PlanContext
        >>> headers = {"Baggage": "user=alice, plan_name=daily%20sales; ttl=60"}
        >>> extract(headers, accept={"plan_name": PlanContext})
        Snapshot({PlanContext: 'daily sales'})
    """
    _check(accept)
    # A header may come in several lines: RFC 7230, section 3.2.2.
    header = ",".join(line for _, line in _found(headers, str | bytes))
    members = _members(header) if _size(header) <= _BYTES else []
    contexts: dict[object, VarContext[Any]] = {}
    for member in members[:_MEMBERS]:
        found = _MEMBER.fullmatch(member) if len(member) <= _MEMBER_BYTES else None
        if found and (cls := accept.get(found["key"])):
            # However a class refuses, what is sent to it must not stop a service.
            with suppress(Exception):
                contexts[cls.var] = cls(unquote(found["value"], errors="strict"))
    return Snapshot(*contexts.values())


def _check(contexts: Contexts) -> None:
    refuse_no_mapping(contexts)
    for name, cls in contexts.items():
        # Not all callers check types.
        if not (isinstance(name, str) and re.fullmatch(_KEY, name)):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"a name in baggage must be a token (RFC 7230), got {shown(name)}"
            raise ValueError(msg)
        binds = isinstance(cls, type) and issubclass(cls, VarContext)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not (binds and hasattr(cls, "var") and cls.carried):
            msg = (
                f"baggage takes context classes that are carried, got {described(cls)}"
            )
            raise TypeError(msg)


def _writable(headers: MutableHeaders) -> MutableHeaders:
    kind: Any = type(headers)
    methods = ("items", "__setitem__", "__delitem__")
    if not all(hasattr(kind, method) for method in methods):
        msg = (
            "inject writes into headers that can be changed, such as a dict or those "
            f"of a request to send; got {described(headers)}"
        )
        raise TypeError(msg)
    return headers


def _found(headers: object, text: Any) -> list[tuple[str, str]]:
    """Return the name and the value of each header called baggage.

    Raises:
        TypeError: If these are no headers, or are not of this kind of text.
    """
    found: list[tuple[str, str]] = []
    for pair in _pairs(headers):
        if not _is_pair(pair):
            raise _no_headers(headers)
        name: Any
        name, value = pair
        if not isinstance(name, text):
            raise _no_headers(headers, f" with {described(name)} as a name")
        name = _decoded(name)
        if isinstance(value, Header):  # what email makes of bytes that are not ASCII
            value = str(value)
        if name.lower() == "baggage":
            if not isinstance(value, text):
                raise _no_headers(headers, f" with {described(value)} as baggage")
            found.append((name, _decoded(value)))
        elif not isinstance(value, str | bytes):
            _refuse_request(name)
    return found


def _is_pair(pair: object) -> bool:
    sized: Any = pair
    return isinstance(pair, tuple | list) and len(sized) == 2  # noqa: PLR2004


def _pairs(headers: Any) -> Iterable[Any]:
    given: Any = headers
    if hasattr(given, "headers"):  # many requests and responses can be iterated over
        raise _no_headers(given, ": pass its headers")
    if isinstance(headers, Mapping | str | bytes) or not isinstance(headers, Iterable):
        if not hasattr(given, "items"):
            raise _no_headers(given)
    else:
        listed: list[Any] = [*headers]
        # Those of email iterate over names, of werkzeug and grpc.aio over pairs.
        if not (listed and isinstance(listed[0], str) and hasattr(given, "items")):
            return listed
    try:
        return [*given.items()]
    except LookupError:  # those of websockets, at a name that came twice
        return [*given.raw_items()]


def _decoded(text: Any) -> str:
    decoded: str = text.decode("latin-1") if isinstance(text, bytes) else text
    return decoded


def _no_headers(given: object, detail: str = "") -> TypeError:
    return TypeError(
        "baggage is in headers: a mapping from name to value, both text, or for "
        f"extract an iterable of pairs, text or bytes; got {described(given)}{detail}"
    )


def _refuse_request(name: str) -> None:
    """Raise if only a whole request has something of this name that is no text."""
    if name.startswith("wsgi."):
        msg = (
            "baggage is in headers, got an environ: "
            "pass {'baggage': environ.get('HTTP_BAGGAGE', '')}"
        )
        raise TypeError(msg)
    if name == "headers":
        msg = "baggage is in headers, got an ASGI scope: pass scope['headers']"
        raise TypeError(msg)


def _member(name: str, value: object) -> str:
    if not isinstance(value, str):
        msg = f"{name}: baggage takes text, got {described(value)}"
        raise TypeError(msg)
    try:
        member = f"{name}={quote(value, safe='')}"
    except UnicodeEncodeError:  # which quotes the value (rule N6)
        msg = f"{name}: baggage takes text in UTF-8, which has no lone surrogates"
        raise ValueError(msg) from None
    _fit(f"bytes of baggage for {name}", len(member), _MEMBER_BYTES)
    return member


def _fit(what: str, given: int, limit: int) -> None:
    if given > limit:
        msg = f"{given} {what} do not fit: the limit is {limit}"
        raise ValueError(msg)


def _members(header: str) -> list[str]:
    return [member for each in header.split(",") if (member := each.strip(" \t"))]


def _size(header: str) -> int:
    return len(header.encode("utf-8", "surrogatepass"))
