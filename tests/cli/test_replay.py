"""`kagzi replay`: status 1 and a diff where open runs don't fit the code (P16)."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.commands import a_worker, answer, called, kagzi

NAP = """
from kagzi import Kagzi, WorkflowContext

app = Kagzi()


@app.workflow("nap")
async def nap(ctx: WorkflowContext, seconds: float) -> str:
    {first}await ctx.sleep("{name}", seconds)
    return "rested"
"""


def a_module(folder: Path, name: str, *, first: str = "") -> str:
    (folder / "newer.py").write_text(NAP.format(name=name, first=first))
    return "newer:app"


def a_sleeper(url: str) -> str:
    with a_worker(url=url):
        kagzi("run", "nap", "--input", "3600", "--timeout", "1", "--id", "sleeper", url=url)
    run_id: str = answer("runs", "show", "sleeper", url=url)["run_id"]
    return run_id


def test_code_that_fits_gives_status_0_and_code_that_does_not_1(any_database_url: str, tmp_path: Path) -> None:
    run_id = a_sleeper(any_database_url)

    fits = kagzi("replay", a_module(tmp_path, "doze"), "--all-open", url=any_database_url, cwd=tmp_path)
    renamed = kagzi("replay", a_module(tmp_path, "rest"), "--all-open", url=any_database_url, cwd=tmp_path)
    by_id = kagzi("replay", "newer:app", "--run", run_id, "--json", url=any_database_url, cwd=tmp_path)

    assert (fits.returncode, fits.stdout) == (0, "Replayed 1 run: 1 fit, 0 do not.\n")
    assert renamed.returncode == 1
    assert f"Run {run_id} of 'nap', version 1:" in renamed.stdout
    assert "timer 'doze' (0/doze#1) was renamed to timer 'rest' (0/rest#1)" in renamed.stdout
    assert "  - waited for: TIMER 0/doze#1\n  + code asks for: TIMER 0/rest#1\n" in renamed.stdout
    assert by_id.returncode == 1
    (unfit,) = json.loads(by_id.stdout)["unfit"]
    assert (unfit["run_id"], unfit["error"]) == (run_id, "DivergenceError")
    assert unfit["diff"] == ["- waited for: TIMER 0/doze#1", "+ code asks for: TIMER 0/rest#1"]
    assert answer("runs", "show", "sleeper", url=any_database_url)["wakeups"] == 0


def test_versions_that_the_code_does_not_have_are_counted(sqlite_url: str, tmp_path: Path) -> None:
    run_id = answer("run", "nap", "--version", "7", "--detach", url=sqlite_url)["run_id"]
    target = a_module(tmp_path, "doze")

    every = kagzi("replay", target, "--all-open", "--json", url=sqlite_url, cwd=tmp_path)
    by_id = kagzi("replay", target, "--run", run_id, url=sqlite_url, cwd=tmp_path)

    assert every.returncode == 0
    assert json.loads(every.stdout)["not_replayed"] == [{"workflow": "nap", "version": 7, "runs": 1}]
    assert by_id.returncode == 1
    assert "version 7, which is not in this code" in by_id.stdout


def test_what_can_not_be_replayed_is_told_in_one_line(sqlite_url: str) -> None:
    answer("db", "migrate", url=sqlite_url)
    for arguments, status in (
        ((), 2),
        (("--all-open", "--run", "x"), 2),
        (("--run", "x", "--workflow", "nap"), 2),
        (("--run", "x"), 1),
    ):
        done = called("replay", "tests.cli.flows:app", *arguments, url=sqlite_url)
        assert done.exit_code == status, arguments
        assert len(done.stderr.splitlines()) == 1
