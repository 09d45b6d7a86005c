"""The workers on an application's database: seeing them, and asking them to drain."""

from __future__ import annotations

from collections.abc import Sequence

from kagzi.authoring.names import check_name
from kagzi.client.link import Link
from kagzi.client.views import as_worker
from kagzi.errors import WorkerNotFound
from kagzi.model.run import WorkerKey
from kagzi.model.worker import RegisteredWorker

_NAMED = 20
"""How many workers an error names."""


async def find(link: Link, *, ended: bool, namespace: str | None = None) -> list[RegisteredWorker]:
    """List the workers of a namespace (without one the application's), latest first.

    On request those that ended within a day too.
    """
    workers = [as_worker(stored) for stored in await link.store.workers(namespace or link.settings.namespace)]
    return [worker for worker in workers if ended or not worker.has_ended]


async def drain(link: Link, which: str) -> RegisteredWorker:
    """Ask the one living worker that is meant to drain."""
    worker = meant(check_name(which, what="worker_id"), await find(link, ended=False))
    asked = await link.store.ask_drain(link.settings.namespace, [WorkerKey(worker.key)])
    if worker.key not in asked:  # it has ended since we looked
        raise WorkerNotFound(which)
    return worker


def meant(which: str, living: Sequence[RegisteredWorker]) -> RegisteredWorker:
    """The worker with this key or name, else the one whose key or name begins so. Raises WorkerNotFound."""
    for found in (
        [worker for worker in living if worker.key == which],
        [worker for worker in living if worker.worker_id == which],
        [worker for worker in living if worker.worker_id.startswith(which) or worker.key.startswith(which)],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise WorkerNotFound(which, living=_names(found), several=True)
    raise WorkerNotFound(which, living=_names(living))


def _names(workers: Sequence[RegisteredWorker]) -> tuple[str, ...]:
    """Their names, with their keys where one name stands for several."""
    names = [worker.worker_id for worker in workers]
    return tuple(
        worker.worker_id if names.count(worker.worker_id) == 1 else f"{worker.worker_id} ({worker.key})"
        for worker in workers[:_NAMED]
    )
