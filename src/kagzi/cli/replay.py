"""`kagzi replay`: see whether open runs still fit the code, before it is deployed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from kagzi.cli.errors import FAILED, Refused
from kagzi.cli.options import common_options, complete, database_url, wants_json
from kagzi.cli.output import echo_json, echo_lines, printable

if TYPE_CHECKING:
    from kagzi.app.kagzi import Kagzi
    from kagzi.client.replaying import Replayed


@click.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--run", "runs", multiple=True, metavar="ID", help="A run, open or ended; can be repeated.")
@click.option("--all-open", is_flag=True, help="Every run that has not ended.")
@click.option("--workflow", metavar="NAME", help="Of these, the runs of one workflow.")
@common_options
@click.pass_context
def replay(ctx: click.Context, target: str, runs: tuple[str, ...], all_open: bool, workflow: str | None) -> None:
    """Replay stored runs against an application's code, to see before a deploy whether it fits them.

    Reads the database and does nothing else: no step is executed, nothing is written. Exit status 1, with a diff, where
    the code doesn't fit a run. Open runs of versions that the application doesn't have are counted and passed over.
    """
    if bool(runs) == all_open:
        raise Refused("Say which runs: --run ID, as often as you like, or --all-open.")
    if runs and workflow is not None:
        raise Refused("--workflow chooses among all open runs; with --run give the runs alone.")
    from kagzi.cli.application import load_application

    application = load_application(target, database_url=database_url())
    tally = complete(_replay(application, list(runs), workflow))
    if wants_json():
        echo_json(tally.as_json())
    else:
        click.echo(tally.summary)
    if tally.unfit or (runs and tally.unknown):
        ctx.exit(FAILED)


@dataclass
class _Tally:
    """What came of all replays; of those that fit nothing is kept but the number."""

    fit: int = 0
    unknown: dict[tuple[str, int], int] = field(default_factory=dict)
    unfit: list[Replayed] = field(default_factory=list)

    def add(self, replayed: Replayed) -> None:
        if not replayed.is_known:
            version = replayed.workflow, replayed.version
            self.unknown[version] = self.unknown.get(version, 0) + 1
        elif replayed.error is None:
            self.fit += 1
        else:
            self.unfit.append(replayed)

    @property
    def summary(self) -> str:
        total = self.fit + len(self.unfit) + sum(self.unknown.values())
        text = f"Replayed {total} run{'s' if total != 1 else ''}: {self.fit} fit, {len(self.unfit)} do not."
        for (workflow, version), count in sorted(self.unknown.items()):
            text += f" Not replayed: {count} of workflow {workflow!r}, version {version}, which is not in this code."
        return printable(text)

    def as_json(self) -> dict[str, Any]:
        unknown = [
            {"workflow": workflow, "version": version, "runs": count}
            for (workflow, version), count in sorted(self.unknown.items())
        ]
        return {"fit": self.fit, "unfit": [_as_json(each) for each in self.unfit], "not_replayed": unknown}


async def _replay(application: Kagzi, run_ids: list[str], workflow: str | None) -> _Tally:
    from dataclasses import replace

    # Whoever only looks must not change the schema under everybody else.
    application.settings = replace(application.settings, auto_migrate=False)
    tally = _Tally()
    async with application:
        async for replayed in application.replays(run_ids or None, workflow=workflow):
            tally.add(replayed)
            if replayed.error is not None and not wants_json():
                click.echo(printable(f"Run {replayed.run_id} of {replayed.workflow!r}, version {replayed.version}:"))
                echo_lines(replayed.reason, first="  ", width=2)
    return tally


def _as_json(replayed: Replayed) -> dict[str, Any]:
    return {
        "run_id": replayed.run_id,
        "workflow": replayed.workflow,
        "version": replayed.version,
        "operations": replayed.operations,
        "error": type(replayed.error).__name__,
        "reason": replayed.reason,
        "diff": list(getattr(replayed.error, "diff", ())),
    }
