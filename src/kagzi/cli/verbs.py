"""`kagzi runs cancel`, `terminate`, `pause`, `resume` and `retry`: of one run, or of all that filters find."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kagzi.cli.errors import FAILED, Refused
from kagzi.cli.options import common_options, complete, looking, wants_json
from kagzi.cli.output import echo_json, printable, run_as_json

if TYPE_CHECKING:
    from kagzi.app.kagzi import Kagzi
    from kagzi.model.bulk import BulkOutcome
    from kagzi.model.run import Run

F = TypeVar("F", bound=Callable[..., Any])

_SHOWN = 10


def _one_or_many(command: F) -> F:
    """The argument and options of a command that is given RUN or filters."""
    options = [
        click.argument("which", metavar="[RUN]", required=False),
        click.option("--status", metavar="STATUS", help="Runs with this status."),
        click.option("--workflow", metavar="NAME", help="Runs of this workflow."),
        click.option("--queue", metavar="NAME", help="Runs in this queue."),
        click.option("--tag", "tags", multiple=True, metavar="TEXT", help="Runs with this tag; can be repeated."),
        click.option("--id", "own_id", metavar="ID", help="The run that was started with this id."),
        click.option("--parent", metavar="RUN_ID", help="The children of this run."),
        click.option("--created-after", type=click.DateTime(), metavar="TIME", help="Runs started since, in UTC."),
        click.option("--paused", is_flag=True, default=None, help="Runs that are paused."),
        click.option("--all", "every", is_flag=True, help="All runs that it can be done with."),
        click.option("--dry-run", is_flag=True, help="Do nothing, and say what would be done."),
        click.option("--yes", is_flag=True, help="Don't ask before it is done with what filters find."),
        common_options,
    ]
    for option in reversed(options):
        command = option(command)
    return command


_reason = click.option("--reason", metavar="TEXT", help="Why; it is shown with the run.")


@click.command()
@_reason
@_one_or_many
def cancel(reason: str | None, **given: Any) -> None:
    """Have a run cancelled: its body is told where it awaits, and may clean up.

    RUN is its run_id or the id that it was started with. A run that nobody has begun is CANCELLED at once. Without RUN,
    all runs that the filters find and that have not ended.
    """
    _do("cancel", given, "is being cancelled", reason=reason)


@click.command()
@_reason
@_one_or_many
def terminate(reason: str | None, **given: Any) -> None:
    """Make a run CANCELLED now, without asking its body.

    RUN is its run_id or the id that it was started with. Without RUN, all runs that the filters find and that have not
    ended.
    """
    _do("terminate", given, "is being ended", reason=reason)


@click.command()
@_reason
@_one_or_many
def pause(reason: str | None, **given: Any) -> None:
    """Have a run rest until it is resumed: it begins no step, and what is being executed finishes and is kept.

    RUN is its run_id or the id that it was started with. Without RUN, all runs that the filters find and that have not
    ended.
    """
    _do("pause", given, "is paused", reason=reason)


@click.command()
@_one_or_many
def resume(**given: Any) -> None:
    """Let a paused run go on.

    RUN is its run_id or the id that it was started with. Without RUN, all paused runs that the filters find.
    """
    _do("resume", given, "goes on")


@click.command()
@_one_or_many
def retry(**given: Any) -> None:
    """Have a run that is FAILED or CANCELLED go on: what it completed is kept, what failed is executed anew.

    RUN is its run_id or the id that it was started with. Without RUN, all FAILED runs that the filters find, or the
    CANCELLED ones with `--status CANCELLED`.
    """
    _do("retry", given, "goes on")


# -- doing ---------------------------------------------------------------------------------------------------------


def _do(verb: str, given: dict[str, Any], under_way: str, **reason: str | None) -> None:
    which, every, dry_run, yes = (given.pop(name) for name in ("which", "every", "dry_run", "yes"))
    filters = _filters(given)
    if which is not None:
        if filters or every or dry_run:
            raise Refused("give RUN, or filters, --all and --dry-run to find runs; not both.")
        try:
            run = complete(_do_one(verb, which, reason))
        except ValueError as error:
            raise Refused(str(error)) from error
        _tell(run, under_way)
        return
    if bool(filters) is every:
        raise Refused("give filters or --all, not both." if every else "give RUN, or filters to find runs, or --all.")
    try:
        foreseen = complete(_do_many(verb, filters, every=every, dry_run=True)) if dry_run or not yes else None
        if not dry_run and foreseen is not None:
            _confirm(verb, foreseen)
        outcome = foreseen if dry_run else complete(_do_many(verb, filters, every=every, dry_run=False, **reason))
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from error
    assert outcome is not None
    _tell_many(verb, outcome)
    if outcome.refused:
        click.get_current_context().exit(FAILED)


def _filters(given: dict[str, Any]) -> dict[str, Any]:
    from datetime import UTC

    filters = {name: value for name, value in given.items() if value not in (None, ())}
    if "own_id" in filters:
        filters["id"] = filters.pop("own_id")
    if "created_after" in filters:
        filters["created_after"] = filters["created_after"].replace(tzinfo=UTC)
    return filters


def _confirm(verb: str, foreseen: BulkOutcome) -> None:
    """Ask whoever sits there. Nobody does where a program reads the answer or the input has ended: then --yes."""
    count = len(foreseen.done)
    if not count:
        return
    if wants_json():
        raise Refused(f"{count} runs would be met by `{verb}`; say --yes, or --dry-run to see them.")
    try:
        said = click.confirm(f"{verb.capitalize()} {_runs(count)}?", err=True)
    except click.Abort as error:
        raise Refused(f"{count} runs would be met by `{verb}`, and nobody said yes; --yes does.") from error
    if not said:
        raise Refused("nothing was done.")


async def _do_one(verb: str, which: str, reason: dict[str, str | None]) -> Run:
    from kagzi.model.run import RunId

    async with looking() as kagzi:
        handle = kagzi.handle(await run_id_of(kagzi, which))
        await getattr(handle, verb)(**reason)
        # Where the run has continued as new, it was done with the last of its chain.
        return await kagzi.handle(await kagzi.store_in_use().latest(RunId(handle.run_id))).describe()


async def _do_many(
    verb: str, filters: dict[str, Any], *, every: bool, dry_run: bool, **reason: str | None
) -> BulkOutcome:
    async with looking() as kagzi:
        outcome: BulkOutcome = await getattr(kagzi, f"{verb}_runs")(all=every, dry_run=dry_run, **filters, **reason)
        return outcome


async def run_id_of(kagzi: Kagzi, which: str) -> str:
    """The run_id of a run that is known by its own id, or as it is."""
    found = await kagzi.find_runs(id=which, limit=1)
    return found[0].run_id if found else which


# -- for people ----------------------------------------------------------------------------------------------------


def _tell(run: Run, under_way: str) -> None:
    if wants_json():
        echo_json(run_as_json(run))
    elif run.finished_at is not None:
        click.echo(f"Run {run.run_id} is {run.status}.")
    else:
        click.echo(f"Run {run.run_id} {under_way}; it is {run.status}.")


_PAST = {
    "cancel": "cancelled",
    "terminate": "terminated",
    "pause": "paused",
    "resume": "resumed",
    "retry": "retried",
}


def _tell_many(verb: str, outcome: BulkOutcome) -> None:
    if wants_json():
        facts = {"done": outcome.done, "unchanged": outcome.unchanged, "refused": outcome.refused}
        echo_json(facts | {"dry_run": outcome.dry_run})
        return
    would = "would be " if outcome.dry_run else ""
    click.echo(f"{_runs(len(outcome.done))} {would}{_PAST[verb]}.")
    if outcome.unchanged:
        click.echo(f"{_runs(len(outcome.unchanged))} {'are' if len(outcome.unchanged) > 1 else 'is'} so already.")
    if outcome.dry_run:
        for run_id in outcome.done[:_SHOWN]:
            click.echo(f"  {run_id}")
        if len(outcome.done) > _SHOWN:
            click.echo(f"  and {len(outcome.done) - _SHOWN} more; --json names them all")
    for run_id, why in outcome.refused.items():
        click.echo(printable(f"Run {run_id}: {why}."), err=True)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
