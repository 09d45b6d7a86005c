"""The workers on an application's database, as others see them."""

from __future__ import annotations

from kagzi.client.link import Link
from kagzi.client.views import as_worker
from kagzi.model.worker import RegisteredWorker


async def find(link: Link, *, ended: bool) -> list[RegisteredWorker]:
    """List the workers of the application's namespace, latest first; on request those that ended within a day too."""
    workers = [as_worker(stored) for stored in await link.store.workers(link.settings.namespace)]
    return [worker for worker in workers if ended or not worker.state.is_final]
