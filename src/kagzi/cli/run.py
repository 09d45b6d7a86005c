"""`kagzi run`: start a run and wait for its result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from kagzi.cli.errors import Failed, Refused
from kagzi.cli.options import common_options, current_settings, database_url, wants_json
from kagzi.cli.output import echo_json, printable, run_as_json, step_as_json, value_text

if TYPE_CHECKING:
    from kagzi.app.kagzi import Kagzi
    from kagzi.client.handles import WorkflowHandle
    from kagzi.model.run import Run

_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """What `kagzi run` was asked for; None leaves a choice open."""

    workflow: str
    input: str | None
    args: str | None
    app: str | None
    id: str | None
    queue: str | None
    version: int | None
    priority: int | None
    delay: float | None
    tags: tuple[str, ...]
    timeout: float | None
    watch: bool
    detach: bool

    def options(self) -> dict[str, Any]:
        """The options of the start that were given."""
        chosen = {
            "id": self.id,
            "queue": self.queue,
            "priority": self.priority,
            "delay": self.delay,
            "tags": self.tags or None,
        }
        return {name: value for name, value in chosen.items() if value is not None}


@click.command()
@click.argument("workflow")
@click.option("--input", metavar="JSON", help="The workflow's only argument; `-` reads it from stdin.")
@click.option("--args", metavar="JSON", help="All its arguments, as a JSON array; `-` reads them from stdin.")
@click.option("--app", metavar="MODULE:APP", help="Check the input against the workflow in this application.")
@click.option("--id", metavar="ID", help="Starts with one id get one run, however often they are repeated.")
@click.option("--queue", metavar="NAME", help="Which workers may take the run.")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="The workflow's version.")
@click.option("--priority", type=int, metavar="N", help="-100 to 100; higher goes first.")
@click.option("--delay", type=float, metavar="SECONDS", help="Let the run fall due later.")
@click.option("--tag", "tags", multiple=True, metavar="TEXT", help="A tag to find the run by; can be repeated.")
@click.option("--watch", is_flag=True, help="Show every step as it happens.")
@click.option("--detach", is_flag=True, help="Print the run_id and don't wait.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait for this long at most.")
@common_options
@click.pass_context
def run(ctx: click.Context, /, **given: Any) -> None:
    """Start a run of WORKFLOW and print its result.

    The result goes to stdout as JSON, everything else to stderr. Exit status 0: it completed; 1: it failed, was
    cancelled or took longer than --timeout.
    """
    order = RunOrder(**given)
    if order.input is not None and order.args is not None:
        raise click.UsageError("--input is the only argument and --args are all of them: give one of the two.")
    if order.watch and order.detach:
        raise click.UsageError("--watch waits for the run and --detach does not: give one of the two.")
    ctx.exit(asyncio.run(_run(order, _arguments(order))))


async def _run(order: RunOrder, args: list[Any]) -> int:
    async with _application(order) as kagzi:
        handle = await _start(kagzi, order, args)
        if order.detach:
            echo_json({"run_id": handle.run_id}) if wants_json() else click.echo(handle.run_id)
            return 0
        click.echo(f"Run {handle.run_id} of {printable(order.workflow)} is stored.", err=True)
        try:
            async with asyncio.timeout(order.timeout):
                ended = await (_watch(handle) if order.watch else _wait(handle))
        except TimeoutError:
            raise Failed(
                f"run {handle.run_id} did not end within {order.timeout:g} s. It goes on: `kagzi runs show` tells."
            ) from None
        except asyncio.CancelledError:
            click.echo(f"Run {handle.run_id} goes on: `kagzi runs show` tells.", err=True)
            raise
    return _conclude(ended, order)


def _conclude(ended: Run, order: RunOrder) -> int:
    if wants_json():
        if not order.watch:
            echo_json(run_as_json(ended))
    elif ended.status == "COMPLETED":
        click.echo(value_text(ended.output))
    if ended.status == "COMPLETED":
        return 0
    error = f": {ended.error.type}: {ended.error.message}" if ended.error is not None else "."
    raise Failed(f"run {ended.run_id} ended {ended.status}{error}")


# -- starting ------------------------------------------------------------------------------------------------------


def _arguments(order: RunOrder) -> list[Any]:
    if order.input is not None:
        return [_read_json("--input", order.input)]
    if order.args is None:
        return []
    args = _read_json("--args", order.args)
    if not isinstance(args, list):
        raise click.UsageError("--args must be a JSON array of all arguments; for a single one there is --input.")
    return args


def _read_json(option: str, text: str) -> Any:
    if text == "-":
        text = sys.stdin.read()
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        shown = value_text(text, limit=60)
        raise click.UsageError(
            f"{option} must be JSON, and {shown} is not: {error}. A text needs quotes: {option} '\"Ada\"'."
        ) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _application(order: RunOrder) -> Kagzi:
    from kagzi.app.kagzi import Kagzi
    from kagzi.cli.application import load_application

    if order.app is not None:
        return load_application(order.app, database_url=database_url())
    return Kagzi(settings=current_settings())


async def _start(kagzi: Kagzi, order: RunOrder, args: list[Any]) -> WorkflowHandle[Any]:
    from kagzi.cli.typed import check_registered, typed_arguments

    if order.app is not None:
        check_registered(kagzi, order.workflow)
    try:
        version = order.version or await _version(kagzi, order.workflow)
        positional, keywords = typed_arguments(kagzi, order.workflow, version, args)
        options = kagzi.options(**order.options(), version=version)
        return await options.start_workflow(order.workflow, *positional, **keywords)
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from error


async def _version(kagzi: Kagzi, workflow: str) -> int:
    """The default version; where there is none, the highest that a living worker offers."""
    version = await kagzi.get_default_workflow_version(workflow) or max(await _offered(workflow), default=None)
    if version is None:
        raise Refused(
            f"which version of {workflow!r} to start can't be told: it has no default version, and no worker that is "
            "running knows it. Start a worker, or give --version N or --app MODULE:APP."
        )
    return version


async def _offered(workflow: str) -> list[int]:
    from kagzi.store.urls import open_store

    settings = current_settings()
    store = open_store(settings.database_url, settings)
    await store.open()
    try:
        workers = await store.workers(settings.namespace)
    finally:
        await store.close()
    alive = [worker for worker in workers if worker.state not in ("STOPPED", "DEAD")]
    return [version for worker in alive for name, version in worker.workflows if name == workflow]


# -- waiting -------------------------------------------------------------------------------------------------------


async def _watch(handle: WorkflowHandle[Any]) -> Run:
    """Show each operation as it happens: on stderr for people, as one event per line on stdout for programs."""
    from kagzi.cli.watching import follow, run_line, step_line
    from kagzi.model.step import Step

    run: Run | None = None
    async for news in follow(handle):
        if isinstance(news, Step):
            _tell("step", step_as_json(news)) if wants_json() else click.echo(step_line(news), err=True)
        else:
            run = news
            _tell("run", run_as_json(news)) if wants_json() else click.echo(run_line(news), err=True)
    assert run is not None, "the run that has ended comes last"
    return run


def _tell(event: str, subject: dict[str, Any]) -> None:
    echo_json({"event": event, event: subject})


async def _wait(handle: WorkflowHandle[Any]) -> Run:
    """Wait for the end, showing that and for what."""
    from kagzi.cli.watching import standing
    from kagzi.errors import StoreUnavailable, WorkflowCancelled, WorkflowFailed

    ended = asyncio.ensure_future(handle.result())
    try:
        with _progress() as show:
            while not ended.done():
                await asyncio.wait({ended}, timeout=_LOOK_EVERY_S)
                if not ended.done():
                    with contextlib.suppress(StoreUnavailable):
                        show(standing(await handle.describe()))
        with contextlib.suppress(WorkflowFailed, WorkflowCancelled):
            await ended
    finally:
        ended.cancel()
    return await handle.describe()


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line that changes in place on a terminal; elsewhere a new line for each change."""
    if not sys.stderr.isatty():
        shown = {""}

        def show(text: str) -> None:
            if text not in shown:
                shown.clear()
                shown.add(text)
                click.echo(text, err=True)

        yield show
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("Waiting for the run.") as status:
        yield lambda text: status.update(escape(text))
