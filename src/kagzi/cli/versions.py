"""`kagzi versions`: which versions of workflows there are, which one starts get, and which get no new runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kagzi.cli.errors import Refused
from kagzi.cli.options import common_options, complete, looking, wants_json
from kagzi.cli.output import echo_json, echo_table, moment, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from kagzi.app.kagzi import Kagzi
    from kagzi.model.version import WorkflowVersion


@click.group()
@common_options
def versions() -> None:
    """Look at versions of workflows, set defaults, deprecate."""


@versions.command("list")
@click.option("--workflow", metavar="NAME", help="Versions of this workflow.")
@common_options
def list_versions(workflow: str | None) -> None:
    """List every version that a worker knows, a run needs, is a default or deprecated.

    One that is deprecated and has no open runs can go: its code is needed by nobody.
    """
    found = [each for each in complete(_find()) if workflow in (None, each.workflow)]
    if wants_json():
        echo_json({"versions": [_as_json(each) for each in found]})
        return
    if not found:
        click.echo("No versions: no worker is up, no run is open, and no default is set.", err=True)
        return
    headings = ["WORKFLOW", "VERSION", "DEFAULT", "OPEN RUNS", "WORKERS", "DEPRECATED"]
    echo_table(headings, [_row(each) for each in found])


@versions.command()
@click.argument("name", metavar="NAME")
@click.argument("version", metavar="VERSION", type=int)
@common_options
def default(name: str, version: int) -> None:
    """Set the version of workflow NAME that new runs get, in every process on this database."""
    _change(lambda kagzi: kagzi.set_default_workflow_version(name, version))
    _report(name, version, f"New runs of workflow {name!r} get version {version}.")


@versions.command()
@click.argument("name", metavar="NAME")
@click.argument("version", metavar="VERSION", type=int)
@click.option("--undo", is_flag=True, help="Let it get new runs again.")
@common_options
def deprecate(name: str, version: int, undo: bool) -> None:
    """Have VERSION of workflow NAME get no new runs. Its open runs go on."""
    if undo:
        _change(lambda kagzi: kagzi.undeprecate_workflow_version(name, version))
        _report(name, version, f"Version {version} of workflow {name!r} gets new runs again.")
        return
    _change(lambda kagzi: kagzi.deprecate_workflow_version(name, version))
    left = sum(each.open_runs for each in complete(_find()) if (each.workflow, each.version) == (name, version))
    rest = "No open run needs its code."
    if left:
        rest = f"{left} open run{'s' if left > 1 else ''} still need{'s' if left == 1 else ''} its code."
    _report(name, version, f"Version {version} of workflow {name!r} gets no new runs. {rest}")


async def _find() -> list[WorkflowVersion]:
    async with looking() as kagzi:
        return await kagzi.find_workflow_versions()


def _change(change: Callable[[Kagzi], Coroutine[Any, Any, None]]) -> None:
    async def do() -> None:
        async with looking() as kagzi:
            await change(kagzi)

    try:
        complete(do())
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from error


def _report(name: str, version: int, text: str) -> None:
    if wants_json():
        found = [each for each in complete(_find()) if (each.workflow, each.version) == (name, version)]
        echo_json(_as_json(found[0]) if found else {"workflow": name, "version": version})
    else:
        click.echo(printable(text))


def _as_json(version: WorkflowVersion) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(version) | {"can_go": version.can_go}


def _row(version: WorkflowVersion) -> list[str]:
    deprecated = moment(version.deprecated_at)
    if version.can_go:
        deprecated += ", its code can go"
    return [
        version.workflow,
        str(version.version),
        "yes" if version.is_default else "",
        str(version.open_runs),
        str(version.workers),
        deprecated,
    ]
