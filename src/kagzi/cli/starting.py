"""Starting what `kagzi run` was asked for, and waiting for its end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from kagzi.app.kagzi import Kagzi
from kagzi.cli.application import load_application
from kagzi.cli.errors import Failed, Refused
from kagzi.cli.options import current_settings, database_url, wants_json
from kagzi.cli.output import echo_json, printable, run_as_json, step_as_json, value_text
from kagzi.cli.run import RunOrder
from kagzi.cli.typed import check_registered, typed_arguments
from kagzi.cli.watching import follow, run_line, standing, step_line
from kagzi.client.handles import WorkflowHandle
from kagzi.errors import PayloadError, StoreUnavailable, WorkflowCancelled, WorkflowFailed
from kagzi.model.run import Run, RunStatus
from kagzi.model.step import Step
from kagzi.store.urls import open_store

_LOOK_EVERY_S = 1.0


def perform(order: RunOrder, args: list[Any]) -> int:
    """Start the run, wait as asked, and give the exit status. Raises Failed, Refused or what Kagzi raises."""
    return asyncio.run(_run(order, args))


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
    elif ended.status is RunStatus.COMPLETED:
        click.echo(value_text(ended.output))
    if ended.status is RunStatus.COMPLETED:
        return 0
    error = f": {ended.error.type}: {ended.error.message}" if ended.error is not None else "."
    raise Failed(f"run {ended.run_id} ended {ended.status}{error}")


# -- starting ------------------------------------------------------------------------------------------------------


def _application(order: RunOrder) -> Kagzi:
    if order.app is not None:
        return load_application(order.app, database_url=database_url())
    return Kagzi(settings=current_settings())


async def _start(kagzi: Kagzi, order: RunOrder, args: list[Any]) -> WorkflowHandle[Any]:
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
    ended = asyncio.ensure_future(handle.result())
    try:
        with _progress() as show:
            while not ended.done():
                await asyncio.wait({ended}, timeout=_LOOK_EVERY_S)
                if not ended.done():
                    with contextlib.suppress(StoreUnavailable):
                        show(standing(await handle.describe()))
        # A result that does not fit its type here is shown as the JSON that it is.
        with contextlib.suppress(WorkflowFailed, WorkflowCancelled, PayloadError):
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
