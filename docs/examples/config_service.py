"""A configuration service that nobody has to tell which plan is asking.

It looks in three layers, and the first that has the setting answers: the environment,
as in ``AURA_CURRENCY=CHF``; the settings that all plans share, in ``global.toml``; and
those of the plan that is bound where the question is asked, in a TOML file of its own.

Run it as ``python config_service.py [FOLDER]`` to see what each plan of the folder is
answered. Without a folder, the plans beside this file are asked.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tomllib

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aura_context import PlanContext, plan_context


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


GLOBAL = "global.toml"


class MissingSettingError(LookupError):
    """No layer has the setting; the message says which were looked in."""


class PlanFile(NamedTuple):
    """The settings of a plan, and where they were read."""

    path: Path
    settings: Mapping[str, str]


class ConfigService:
    """Answers from the environment, else the global settings, else the plan's own.

    Files are read when the service is made, and again when it is told to. A plan's
    name is looked up among those that the files give, and never made into a path.
    """

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str] = os.environ,
        prefix: str = "AURA_",
    ) -> None:
        self._environ = environ
        self._prefix = prefix
        shared = folder / GLOBAL
        self._global = PlanFile(shared, read(shared)[1] if shared.exists() else {})
        self._plans: dict[str, PlanFile] = {}
        for path in sorted(folder.glob("*.toml")):
            if path != shared:
                name, settings = read(path)
                if name in self._plans:
                    msg = f"{path} and {self._plans[name].path} are both {name!r}"
                    raise ValueError(msg)
                self._plans[name] = PlanFile(path, settings)

    @property
    def plan_names(self) -> Sequence[str]:
        """The plans that have a file."""
        return [*self._plans]

    def get(self, key: str) -> str:
        """Answer for the plan that is bound here, or for nobody if none is.

        Raises:
            MissingSettingError: If no layer has the setting.
        """
        plan_name = PlanContext.current()
        variable = self._prefix + key.upper()
        layers = [
            (f"the environment ({variable})", self._environ.get(variable)),
            (f"the global settings ({GLOBAL})", self._global.settings.get(key)),
        ]
        if plan_name is None:
            layers.append(("no plan's own, as none is bound here", None))
        elif (own := self._plans.get(plan_name)) is None:
            layers.append((f"none of plan {plan_name!r}, which has no file", None))
        else:
            where = f"those of plan {plan_name!r} ({own.path.name})"
            layers.append((where, own.settings.get(key)))
        for _, value in layers:
            if value is not None:
                return value
        msg = f"{key!r} is not set; looked in " + ", ".join(
            where for where, _ in layers
        )
        raise MissingSettingError(msg)

    def reload(self, plan_name: str) -> None:
        """Read the file of one plan again; no other is touched.

        If it cannot be read now, what it said before stays.

        Raises:
            LookupError: If the plan has no file.
            ValueError: If the file is another plan's by now.
        """
        if plan_name not in self._plans:
            msg = f"plan {plan_name!r} has no file"
            raise LookupError(msg)
        path = self._plans[plan_name].path
        name, settings = read(path)
        if name != plan_name:
            msg = f"{path} was of plan {plan_name!r}, and is now of {name!r}"
            raise ValueError(msg)
        # In one step, and nothing is changed in place: whoever asks at this moment
        # gets an answer from before or one from after.
        self._plans[plan_name] = PlanFile(path, settings)


def read(path: Path) -> tuple[str, Mapping[str, str]]:
    """Return the name that a file gives, if any, and its settings as text."""
    document = tomllib.loads(path.read_text("utf-8"))
    settings = document.get("settings", {})
    name = str(document.get("name", path.stem))
    return name, {key: str(value) for key, value in settings.items()}


async def ask(service: ConfigService, plan_name: str, keys: Sequence[str]) -> list[str]:
    """Ask as one of many plans, and let the others ask in between."""
    answers: list[str] = []
    async with plan_context(plan_name):
        for key in keys:
            await asyncio.sleep(0)
            try:
                answers.append(f"{key} is {service.get(key)!r}")
            except MissingSettingError as error:
                answers.append(str(error))
    return answers


async def main(arguments: Sequence[str]) -> None:
    """Ask as all plans of a folder at once."""
    folder = Path(*arguments) if arguments else Path(__file__).parent / "plans"
    service = ConfigService(folder)
    names, keys = service.plan_names, ("title", "currency")
    answers = await asyncio.gather(*(ask(service, name, keys) for name in names))
    for name, lines in zip(names, answers, strict=True):
        print(f"{name}: {'; '.join(lines)}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
