"""What is bound here, in the ``baggage`` header: https://www.w3.org/TR/baggage/."""

from __future__ import annotations

import re

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from aura_context import Snapshot, VarContext
from aura_context._stack import same
from aura_context._variables import default


if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping


__all__ = ["extract", "inject"]


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


def inject(
    headers: MutableMapping[str, str], contexts: Mapping[str, type[VarContext[Any]]]
) -> None:
    """Write what is bound here into the ``baggage`` header of a request to send.

    Members of other names stay, with their properties. One of a name that is given
    is replaced, or removed where the variable has its default.

    Args:
        headers: Headers, named in any case. On an error they are left alone.
        contexts: The context class to write for each name.

    Raises:
        TypeError: If a value is not a str, or a class binds nothing or is not carried.
        ValueError: If a name is not a token (:rfc:`7230`), a value has no UTF-8, or
            it does not fit: 180 members, 4096 bytes each, 8192 bytes in all.

    Example:
        >>> from aura_context import PlanContext, plan_context
        >>> headers = {"baggage": "user=alice"}
        >>> with plan_context("daily sales"):
        ...     inject(headers, {"plan_name": PlanContext})
        >>> headers
        {'baggage': 'user=alice,plan_name=daily%20sales'}

    .. versionadded:: 0.1.0
    """
    _check(contexts)
    written = [
        _member(name, value)
        for name, cls in contexts.items()
        if not same(value := cls.current(), default(cls.var))
    ]
    kept = [
        member
        for member in _members(_joined(headers))
        if member.partition("=")[0].rstrip(" \t") not in contexts
    ]
    header = ",".join(kept + written)
    if written:  # else it can only have become shorter
        _fit("members of baggage", len(kept + written), _MEMBERS)
        _fit("bytes of baggage", _size(header), _BYTES)
    present = [name for name in headers if name.lower() == "baggage"]
    for name in present:
        headers.pop(name, None)
    if header:
        headers[present[0] if present else "baggage"] = header


def extract(
    headers: Mapping[str, str], accept: Mapping[str, type[VarContext[Any]]]
) -> Snapshot:
    """Read the ``baggage`` header of a request, which anyone may have sent.

    No header is an error. Members that are malformed, not accepted, longer than 4096
    bytes or refused by their class are dropped, and so are those after the 180th; of
    a header beyond 8192 bytes nothing is read. Of equal names the last that is left
    counts. Properties are ignored.

    Args:
        headers: Headers, named in any case.
        accept: The context class to read for each name. What to believe is yours to
            say, so there is no default.

    Raises:
        TypeError: If a class binds nothing or is not carried.
        ValueError: If a name is not a token (:rfc:`7230`).

    Example:
        >>> from aura_context import PlanContext
        >>> headers = {"Baggage": "user=alice, plan_name=daily%20sales; ttl=60"}
        >>> extract(headers, accept={"plan_name": PlanContext})
        Snapshot({PlanContext: 'daily sales'})

    .. versionadded:: 0.1.0
    """
    _check(accept)
    header = _joined(headers)
    members = _members(header) if _size(header) <= _BYTES else []
    contexts: dict[object, VarContext[Any]] = {}
    for member in members[:_MEMBERS]:
        found = _MEMBER.fullmatch(member) if len(member) <= _MEMBER_BYTES else None
        if found and (cls := accept.get(found["key"])):
            # However a class refuses, what is sent to it must not stop a service.
            with suppress(Exception):
                contexts[cls.var] = cls(unquote(found["value"], errors="strict"))
    return Snapshot(*contexts.values())


def _check(contexts: Mapping[str, type[VarContext[Any]]]) -> None:
    for name, cls in contexts.items():
        # What a type promises is not yet so.
        if not (isinstance(name, str) and re.fullmatch(_KEY, name)):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"a name in baggage must be a token (RFC 7230), got {name!r}"
            raise ValueError(msg)
        binds = isinstance(cls, type) and issubclass(cls, VarContext)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not (binds and hasattr(cls, "var") and cls.carried):
            msg = f"baggage takes context classes that are carried, got {cls!r}"
            raise TypeError(msg)


def _member(name: str, value: object) -> str:
    if not isinstance(value, str):
        msg = f"{name}: baggage takes text, got {value!r} of {type(value).__qualname__}"
        raise TypeError(msg)
    member = f"{name}={quote(value, safe='')}"
    _fit(f"bytes of baggage for {name}", len(member), _MEMBER_BYTES)
    return member


def _fit(what: str, given: int, limit: int) -> None:
    if given > limit:
        msg = f"{given} {what} do not fit: the limit is {limit}"
        raise ValueError(msg)


def _joined(headers: Mapping[str, str]) -> str:
    # A header may come in several lines: RFC 7230, section 3.2.2.
    return ",".join(text for name, text in headers.items() if name.lower() == "baggage")


def _members(header: str) -> list[str]:
    return [member for each in header.split(",") if (member := each.strip(" \t"))]


def _size(header: str) -> int:
    return len(header.encode("utf-8", "surrogatepass"))
