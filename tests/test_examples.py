"""The smaller programs in ``docs/examples``: they run, and do what they say."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

from typing import TYPE_CHECKING, Any

import pytest

from aura_context import NotBoundError, current_plan_name, plan_context

from .examples import EXAMPLES, load, run


if TYPE_CHECKING:
    from pathlib import Path


def lines(name: str, *arguments: str | Path, **changes: str) -> list[str]:
    """Run a program that has nothing to complain of, and return its lines."""
    done = run(EXAMPLES / f"{name}.py", *arguments, changes=changes)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "global", 'currency = "EUR"')
    write(tmp_path, "a", 'title = "A"\ncurrency = "USD"\npages = 3', name="a")
    write(tmp_path, "b", 'title = "B"', name="b")
    return tmp_path


def write(folder: Path, stem: str, settings: str, name: str | None = None) -> None:
    head = "" if name is None else f"name = {name!r}\n"
    (folder / f"{stem}.toml").write_text(f"{head}[settings]\n{settings}\n", "utf-8")


class TestConfigService:
    def service(self, folder: Path, **environ: str) -> Any:
        return load("config_service").ConfigService(folder, environ)

    def test_each_plan_has_its_own_settings(self, folder: Path) -> None:
        service = self.service(folder)
        assert sorted(service.plan_names) == ["a", "b"]
        with plan_context("a"):
            assert (service.get("title"), service.get("pages")) == ("A", "3")
            with plan_context("b"):
                assert service.get("title") == "B"
            assert service.get("title") == "A"

    def test_environment_over_global_over_plan(self, folder: Path) -> None:
        with plan_context("a"):
            assert self.service(folder).get("currency") == "EUR"
            assert self.service(folder, AURA_CURRENCY="CHF").get("currency") == "CHF"
            assert self.service(folder, AURA_CURRENCY="").get("currency") == ""
        (folder / "global.toml").unlink()
        with plan_context("a"):
            assert self.service(folder).get("currency") == "USD"

    def test_the_real_environment(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = load("config_service").ConfigService(folder)
        monkeypatch.setenv("AURA_TITLE", "from the environment")
        with plan_context("a"):
            assert service.get("title") == "from the environment"

    def test_the_error_says_where_it_looked(self, folder: Path) -> None:
        module = load("config_service")
        service = module.ConfigService(folder, {})
        with plan_context("b"), pytest.raises(LookupError) as error:
            service.get("pages")
        assert type(error.value) is module.MissingSettingError
        assert str(error.value) == (
            "'pages' is not set; looked in the environment (AURA_PAGES), "
            "the global settings (global.toml), those of plan 'b' (b.toml)"
        )

    def test_without_a_plan(self, folder: Path) -> None:
        service = self.service(folder)
        assert service.get("currency") == "EUR"
        with pytest.raises(LookupError, match="no plan's own, as none is bound here"):
            service.get("title")

    @pytest.mark.parametrize("name", ["unknown", "../secret", "global"])
    def test_a_plan_without_a_file(self, folder: Path, name: str) -> None:
        write(folder.parent, "secret", 'title = "secret"')
        with plan_context(name):
            assert self.service(folder).get("currency") == "EUR"
            with pytest.raises(LookupError, match=f"'{name}', which has no file"):
                self.service(folder).get("title")
        with pytest.raises(LookupError, match="has no file"):
            self.service(folder).reload(name)

    def test_reload_one_plan(self, folder: Path) -> None:
        service = self.service(folder)
        write(folder, "a", 'title = "A2"', name="a")
        write(folder, "b", 'title = "B2"', name="b")
        with plan_context("a"):
            assert service.get("title") == "A"
            service.reload("a")
            assert service.get("title") == "A2"
            with pytest.raises(LookupError):
                service.get("pages")
        with plan_context("b"):
            assert service.get("title") == "B"

    def test_what_cannot_be_reloaded_stays(self, folder: Path) -> None:
        service = self.service(folder)
        (folder / "a.toml").write_text("title =", "utf-8")
        write(folder, "b", 'title = "C"', name="c")
        for name in ("a", "b"):
            with pytest.raises(ValueError, match=r"Invalid value|is now of 'c'"):
                service.reload(name)
            with plan_context(name):
                assert service.get("title") == name.upper()

    def test_two_files_of_one_plan(self, folder: Path) -> None:
        write(folder, "c", "", name="a")
        with pytest.raises(ValueError, match="are both 'a'"):
            self.service(folder)

    def test_many_plans_at_once(self, folder: Path) -> None:
        names = [f"plan {number}" for number in range(20)]
        for number, name in enumerate(names):
            write(folder, f"plan{number}", f"title = {name!r}", name=name)
        service = self.service(folder)

        async def ask(name: str, turn: asyncio.Barrier) -> list[str]:
            async with plan_context(name):
                answers: list[str] = []
                for _ in range(3):
                    await turn.wait()
                    answers += [service.get("title")]
                    answers += [await asyncio.to_thread(service.get, "title")]
                return answers

        async def main() -> list[list[str]]:
            turn = asyncio.Barrier(len(names))
            return await asyncio.gather(*(ask(name, turn) for name in names))

        assert asyncio.run(main()) == [[name] * 6 for name in names]

    def test_the_program(self, folder: Path) -> None:
        assert "payroll: title is 'Wages'; currency is 'EUR'" in lines("config_service")
        assert lines("config_service", folder, AURA_CURRENCY="CHF") == [
            "a: title is 'A'; currency is 'CHF'",
            "b: title is 'B'; currency is 'CHF'",
        ]


class TestPerPlanResources:
    def test_one_for_each_plan(self) -> None:
        module = load("per_plan_resources")
        with module.OPEN:
            with plan_context("a"):
                of_a = module.database()
                assert module.database() is of_a
            with plan_context("b"):
                assert module.database() is not of_a

    def test_none_for_nobody(self) -> None:
        with pytest.raises(NotBoundError):
            load("per_plan_resources").database()

    def test_closed_at_the_end_as_the_plan(self) -> None:
        module = load("per_plan_resources")
        with module.OPEN:
            with plan_context("a"):
                database = module.database()
            assert database.run("SELECT 1") == [(1,)]
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            database.run("SELECT 1")

    def test_threads_that_ask_at_once_make_one(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        module, together = load("per_plan_resources"), threading.Barrier(8)
        seen: set[tuple[str | None, int]] = set()

        def work(name: str) -> None:
            with plan_context(name):
                together.wait(30)
                seen.add((current_plan_name.get(), id(module.database())))

        with module.OPEN:
            threads = [threading.Thread(target=work, args=[n]) for n in "aaaabbbb"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(name or "" for name, _ in seen) == ["a", "b"]
        assert caplog.text.count("opened") == 2

    def test_no_plan_waits_for_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module, blocked = load("per_plan_resources"), threading.Event()
        entered = threading.Event()

        def sleep(_seconds: float) -> None:
            if current_plan_name.get() == "slow":
                entered.set()
                assert blocked.wait(30)

        def slow() -> None:
            with plan_context("slow"):
                module.database()

        monkeypatch.setattr(module.time, "sleep", sleep)
        thread = threading.Thread(target=slow)
        with module.OPEN:
            thread.start()
            assert entered.wait(30)
            with plan_context("quick"):
                module.database()
            blocked.set()
            thread.join()

    def test_the_program(self) -> None:
        printed = lines("per_plan_resources")
        assert sorted(printed[:2]) == [
            "hourly | opened the database",
            "nightly | opened the database",
        ]
        assert printed[2:4] == [
            "nightly | stored: [('nightly', 6, 15)]",
            "hourly | stored: [('hourly', 6, 15)]",
        ]
        assert sorted(printed[4:]) == [
            "hourly | closed the database",
            "nightly | closed the database",
        ]
