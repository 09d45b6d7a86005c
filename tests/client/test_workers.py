"""Seeing the workers of every process."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from kagzi import Kagzi, RegisteredWorker, WorkerNotFound, WorkerState, WorkflowContext
from kagzi.client.views import as_worker
from kagzi.client.workers import meant
from kagzi.model.run import WorkerKey
from kagzi.model.worker import StoredWorker
from tests.app.applications import an_application, within
from tests.faults.database import harm

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)


async def visit(ctx: WorkflowContext) -> str:
    return "visited"


async def test_a_worker_is_found_with_all_that_it_told(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    kagzi.register_workflow("visit", visit)
    kagzi.register_workflow_version("visit", 2, visit)

    async with kagzi, kagzi.create_worker(worker_id="w1", queues=["a", "b"], max_concurrent_workflows=7) as worker:
        (found,) = await kagzi.find_workers()

    assert (found.worker_id, found.key) == ("w1", worker.key)
    assert (found.host, found.pid) == (socket.gethostname(), os.getpid())
    assert (found.queues, found.workflows, found.slots) == (("a", "b"), (("visit", 1), ("visit", 2)), 7)
    assert not found.drain_asked
    assert found.registered_at <= found.beat_at <= found.seen_at < found.lease_until
    assert found.lease_until - found.beat_at == timedelta(seconds=60)
    assert found.holds_lease


async def test_workers_that_ended_are_found_on_request_alone(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    kagzi.register_workflow("visit", visit)

    async with kagzi:
        async with kagzi.create_worker(worker_id="gone"):
            pass
        async with kagzi.create_worker(worker_id="here"):
            living = await kagzi.find_workers()
            everybody = await kagzi.find_workers(ended=True)

    assert [worker.worker_id for worker in living] == ["here"]
    assert [worker.worker_id for worker in everybody] == ["here", "gone"]
    assert everybody[1].state is WorkerState.STOPPED
    assert not everybody[1].holds_lease


async def test_p23_a_state_of_a_later_release_breaks_no_listing(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)

    async with kagzi:
        async with kagzi.create_worker(worker_id="gone"):
            pass
        if any_database_url.startswith("postgresql"):
            harm(any_database_url, "ALTER TABLE workers DROP CONSTRAINT workers_state_check")
        harm(any_database_url, "UPDATE workers SET state = 'RESTING'")
        (found,) = await kagzi.find_workers()

    assert (found.worker_id, found.state) == ("gone", "RESTING")
    assert found.holds_lease


async def test_a_run_tells_the_name_of_the_worker_that_has_it(any_database_url: str) -> None:
    kagzi = Kagzi(any_database_url)
    seen: list[str | None] = []

    @kagzi.workflow
    async def look(ctx: WorkflowContext) -> None:
        await ctx.step("look", ask, ctx.run_id)

    async def ask(run_id: str) -> None:
        described = await kagzi.handle(run_id).describe()
        listed = await kagzi.find_runs()
        seen.extend([described.worker_id, *(run.worker_id for run in listed)])

    async with kagzi, kagzi.create_worker(worker_id="w1"):
        handle = await look.start()
        await within(handle.result())
        after = await handle.describe()

    assert seen == ["w1", "w1"]
    assert after.worker_id is None


async def test_load_that_is_no_object_of_json_is_shown_as_none(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)

    async with kagzi, kagzi.create_worker():
        (stored,) = await kagzi._open_link().store.workers("default")

    for load in ("no [ JSON", "[1]", "", None):
        damaged: StoredWorker = msgspec.structs.replace(stored, load=load, key=WorkerKey("k"))
        assert as_worker(damaged).load == {}


# -- drain -------------------------------------------------------------------------------------------------------


def a_worker(worker_id: str, key: str) -> RegisteredWorker:
    return RegisteredWorker(
        worker_id=worker_id,
        key=key,
        host="h",
        pid=1,
        queues=("default",),
        workflows=(),
        slots=1,
        state=WorkerState.RUNNING,
        registered_at=NOON,
        beat_at=NOON,
        lease_until=NOON,
        seen_at=NOON,
    )


WORKERS = [a_worker("mail", "01a1"), a_worker("mail-2", "01b1"), a_worker("twin", "01c1"), a_worker("twin", "01c2")]


@pytest.mark.parametrize(
    ("which", "key"),
    [("mail", "01a1"), ("mail-", "01b1"), ("01b", "01b1"), ("01c2", "01c2")],
)
def test_a_worker_is_known_by_its_name_its_key_or_the_beginning_of_one(which: str, key: str) -> None:
    assert meant(which, WORKERS).key == key


@pytest.mark.parametrize(
    ("which", "several", "message"),
    [
        ("ma", True, "any of these workers: mail, mail-2"),
        ("twin", True, r"twin \(01c1\), twin \(01c2\)"),
        ("0", True, "mail-2"),
        ("fax", False, r"no living worker .* There are: mail, mail-2, twin \(01c1\)"),
    ],
)
def test_a_name_that_fits_none_or_several_is_refused(which: str, several: bool, message: str) -> None:
    with pytest.raises(WorkerNotFound, match=message) as caught:
        meant(which, WORKERS)

    assert (caught.value.worker_id, caught.value.several) == (which, several)


async def test_a_worker_that_has_ended_can_not_be_drained(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)

    async with kagzi:
        async with kagzi.create_worker(worker_id="gone"):
            pass
        with pytest.raises(WorkerNotFound, match="There are: none"):
            await kagzi.drain_worker("gone")
        with pytest.raises(ValueError, match="worker_id is empty"):
            await kagzi.drain_worker("")


async def test_draining_reaches_a_worker_of_another_namespace_by_no_name(any_database_url: str) -> None:
    ours, theirs = an_application(any_database_url), an_application(any_database_url, namespace="theirs")

    async with ours, theirs, theirs.create_worker(worker_id="w1") as worker:
        with pytest.raises(WorkerNotFound):
            await ours.drain_worker("w1")
        with pytest.raises(WorkerNotFound):
            await ours.drain_worker(worker.key)
