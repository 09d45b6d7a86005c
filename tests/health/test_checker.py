"""`HealthChecker` on real applications, real workers and real databases that go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kagzi import (
    ConfigError,
    HealthCheckConfig,
    HealthChecker,
    HealthStatus,
    Kagzi,
    StoreUnavailable,
    WorkerState,
    WorkflowContext,
)
from kagzi.app import health
from kagzi.clock import monotonic, utc_now
from kagzi.testing import Environment
from tests.app.applications import an_application, until, watch
from tests.app.watched_store import WatchedStore
from tests.servers import PostgresServer
from tests.worker.deaths import declare_dead

HEALTHY, DEGRADED, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY


async def greet(ctx: WorkflowContext, name: str) -> str:
    return f"Hello, {name}!"


@pytest.fixture
async def kagzi(any_database_url: str) -> AsyncIterator[Kagzi]:
    """An application with a workflow, not connected; whatever a test connects is disconnected in the end."""
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.2), lease=timedelta(seconds=30))
    kagzi.register_workflow("greet", greet)
    kagzi.register_workflow_version("greet", 2, greet)
    yield kagzi
    await kagzi.close()


@pytest.fixture
def store(kagzi: Kagzi) -> WatchedStore:
    return watch(kagzi)


def a_checker(kagzi: Kagzi, **bounds: Any) -> HealthChecker:
    """A checker that a busy machine does not alarm."""
    lenient = {"latency_warning": 20, "clock_offset_warning": 20, "timeout": 20, "loop_lag_warning": 20}
    return HealthChecker(kagzi, HealthCheckConfig(**(lenient | bounds)))


# -- all well ----------------------------------------------------------------------------------------------------


async def test_an_application_with_a_worker_and_nothing_waiting_is_healthy(kagzi: Kagzi) -> None:
    async with kagzi, kagzi.create_worker(worker_id="w1", queues=["mail", "default"]):
        report = await a_checker(kagzi).comprehensive_check()

    assert (report.status, report.reasons, report.is_healthy) == (HEALTHY, (), True)
    assert [(worker.worker_id, worker.status) for worker in report.workers] == [("w1", HEALTHY)]
    assert [(queue.queue, queue.due) for queue in report.queues] == [("default", 0), ("mail", 0)]
    assert report.checked_at is not None


async def test_a_database_tells_its_latency_its_schema_and_its_clock(kagzi: Kagzi) -> None:
    async with kagzi:
        database = await a_checker(kagzi).check_database_health()

    assert database.status is HEALTHY
    assert database.latency is not None
    assert timedelta(0) < database.latency < timedelta(seconds=20)
    assert database.schema_current == database.schema_latest
    assert database.writable
    assert database.replication_lag is None
    if kagzi.settings.database_url.startswith("sqlite"):
        assert database.clock_offset is None, "SQLite has no clock of its own"
    else:
        assert database.clock_offset is not None
        assert abs(database.clock_offset) < timedelta(seconds=20)


async def test_a_checker_has_the_bounds_that_are_promised_where_none_are_given(kagzi: Kagzi) -> None:
    assert HealthChecker(kagzi).config == HealthCheckConfig()


# -- the database ------------------------------------------------------------------------------------------------


async def test_a_server_that_goes_away_is_unhealthy_and_healthy_once_it_is_back(
    own_postgres_server: PostgresServer,
) -> None:
    """P14: nothing but the database's coming back is needed."""
    server = own_postgres_server.start()
    kagzi = an_application(server.create_database())
    async with kagzi, kagzi.create_worker():
        checker = a_checker(kagzi, timeout=5)
        before = await checker.comprehensive_check()
        server.stop()
        began = monotonic()
        away = await checker.comprehensive_check()
        took_s = monotonic() - began
        with pytest.raises(StoreUnavailable):
            await checker.check_queues()
        server.start()
        after = await checker.comprehensive_check()

    assert [each.database.status for each in (before, away, after)] == [HEALTHY, UNHEALTHY, HEALTHY]
    assert (away.status, away.workers, away.queues) == (UNHEALTHY, (), ())
    assert "PostgreSQL" in away.reasons[0]
    assert took_s < 15


@pytest.mark.parametrize("verb", ["probe", "schema_status", "replication_lag", "backlog", "workers"])
async def test_a_database_that_does_not_answer_is_unhealthy_in_time(
    kagzi: Kagzi, store: WatchedStore, verb: str
) -> None:
    """P26: every wait has a deadline."""
    checker = a_checker(kagzi, timeout=0.3)
    async with kagzi:
        gate = store.hold(verb)
        async with asyncio.timeout(20):
            report = await checker.comprehensive_check()
        gate.set()

    assert report.status is UNHEALTHY
    assert report.database.status is UNHEALTHY
    assert "did not answer within 0.3 s" in report.reasons[-1]


@pytest.mark.parametrize("verb", ["probe", "backlog", "workers"])
async def test_a_database_that_fails_is_unhealthy_and_says_why(kagzi: Kagzi, store: WatchedStore, verb: str) -> None:
    async with kagzi:
        with store.unreachable(verb):
            report = await a_checker(kagzi).comprehensive_check()

    assert report.status is UNHEALTHY
    assert "the test has cut the connection" in report.reasons[-1]


async def test_whatever_else_goes_wrong_is_in_the_report(
    kagzi: Kagzi, store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kagzi:
        for verb in ("probe", "backlog"):
            with monkeypatch.context() as patch:
                patch.setattr(store.real, verb, _broken)
                report = await a_checker(kagzi).comprehensive_check()

            assert report.status is UNHEALTHY
            assert report.reasons[-1].endswith("PermissionError: not yours")


async def _broken(*_: Any, **__: Any) -> None:
    raise PermissionError("not yours")


async def test_a_clock_that_is_off_degrades_the_database_and_ages_nobody(
    kagzi: Kagzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: ages are told by the store's clock alone."""
    monkeypatch.setattr(health, "utc_now", lambda: utc_now() + timedelta(hours=5))
    async with kagzi, kagzi.create_worker():
        report = await a_checker(kagzi).comprehensive_check()

    is_sqlite = kagzi.settings.database_url.startswith("sqlite")
    assert report.database.status is (HEALTHY if is_sqlite else DEGRADED)
    assert [worker.status for worker in report.workers] == [HEALTHY]


async def test_an_application_that_is_not_connected_is_refused(kagzi: Kagzi) -> None:
    with pytest.raises(ConfigError, match="not connected"):
        await HealthChecker(kagzi).comprehensive_check()


@pytest.mark.parametrize("arguments", [(None,), ("sqlite://",), (Kagzi("sqlite://"), {"heartbeat_timeout": 3})])
def test_what_can_not_be_checked_is_refused_at_once(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match=r"kagzi must be|config must be"):
        HealthChecker(*arguments)


# -- workers -----------------------------------------------------------------------------------------------------


async def test_a_worker_can_be_asked_for_in_every_way_in_which_it_is_known(kagzi: Kagzi) -> None:
    checker = a_checker(kagzi)
    async with kagzi, kagzi.create_worker(worker_id="w1") as worker:
        (listed,) = await kagzi.find_workers()
        answers = [await checker.check_worker_health(known) for known in (listed, worker, "w1")]

    assert [(each.worker_id, each.key, each.status) for each in answers] == [("w1", listed.key, HEALTHY)] * 3


async def test_a_worker_that_nobody_knows_is_unhealthy(kagzi: Kagzi) -> None:
    async with kagzi:
        by_name = await a_checker(kagzi).check_worker_health("nobody")
        not_started = await a_checker(kagzi).check_worker_health(kagzi.create_worker(worker_id="idle"))

    assert (by_name.status, by_name.state, by_name.key) == (UNHEALTHY, None, None)
    assert (not_started.status, not_started.worker_id) == (UNHEALTHY, "idle")


@pytest.mark.parametrize("given", [None, 5, b"w1", ["w1"]])
async def test_what_is_no_worker_is_refused(kagzi: Kagzi, given: Any) -> None:
    async with kagzi:
        with pytest.raises(TypeError, match="worker must be one that find_workers gives"):
            await HealthChecker(kagzi).check_worker_health(given)


async def test_a_worker_is_judged_as_it_is_now_and_not_as_it_was_when_it_was_listed(
    kagzi: Kagzi, store: WatchedStore
) -> None:
    checker = a_checker(kagzi, heartbeat_warning=1, heartbeat_timeout=2)
    async with kagzi, kagzi.create_worker(worker_id="w1"):
        (listed,) = await kagzi.find_workers()
        stale = replace(listed, beat_at=listed.beat_at - timedelta(hours=1))
        before = await checker.check_worker_health(stale)
        with store.unreachable("beat"):
            statuses: list[HealthStatus] = []

            async def is_unhealthy() -> bool:
                statuses.append((await checker.check_worker_health(listed)).status)
                return statuses[-1] is UNHEALTHY

            await until(is_unhealthy)

        async def is_healthy() -> bool:
            return (await checker.check_worker_health(listed)).is_healthy

        await until(is_healthy)

    assert before.status is HEALTHY
    assert list(dict.fromkeys(statuses)) == [HEALTHY, DEGRADED, UNHEALTHY]


async def test_a_worker_that_has_stopped_is_gone_and_left_out(kagzi: Kagzi) -> None:
    checker = a_checker(kagzi)
    async with kagzi:
        async with kagzi.create_worker(worker_id="w1"):
            pass
        stopped = await checker.check_worker_health("w1")
        report = await checker.comprehensive_check()

    assert (stopped.status, stopped.state, stopped.is_gone) == (HEALTHY, WorkerState.STOPPED, True)
    assert report.workers == ()
    assert (report.status, report.reasons) == (DEGRADED, ("no worker takes runs",))


async def test_a_worker_that_died_is_missed_until_another_takes_its_place(kagzi: Kagzi, store: WatchedStore) -> None:
    checker = a_checker(kagzi)
    async with kagzi, kagzi.create_worker(worker_id="w1") as worker:
        with store.unreachable("beat", "register"):  # nor does it come back by itself
            former = worker.key
            await declare_dead(store.real, former)
            alone = await checker.comprehensive_check()
        await until(lambda: worker.key != former)
        back = await checker.comprehensive_check()
        of_that_name = await checker.check_worker_health("w1")
        (listed,) = [each for each in await kagzi.find_workers(ended=True) if each.key == former]
        that_registration = await checker.check_worker_health(listed)

    (dead,) = alone.workers
    assert (alone.status, dead.status, dead.state) == (UNHEALTHY, UNHEALTHY, WorkerState.DEAD)
    assert (back.status, len(back.workers)) == (HEALTHY, 1)
    assert of_that_name.is_healthy
    assert not of_that_name.is_gone
    assert (that_registration.state, that_registration.is_gone) == (WorkerState.DEAD, True)


# -- queues ------------------------------------------------------------------------------------------------------


async def test_due_runs_without_any_worker_are_unhealthy_and_named(kagzi: Kagzi) -> None:
    """P17: no worker for that version; it waits, and the reason is visible."""
    async with kagzi:
        await kagzi.options(queue="mail", version=2).start_workflow("greet", "Ada")
        await kagzi.options(queue="mail", version=2, delay=60).start_workflow("greet", "Bob")
        report = await a_checker(kagzi).comprehensive_check()

    (queue,) = report.queues
    assert report.status is UNHEALTHY
    assert (queue.queue, queue.due, queue.unserved) == ("mail", 1, (("greet", 2),))
    assert "no living worker serves version 2 of workflow 'greet' on queue 'mail'" in queue.reasons[0]


async def test_a_queue_that_no_worker_serves_degrades_and_the_others_are_well(kagzi: Kagzi) -> None:
    checker = a_checker(kagzi)
    async with kagzi, kagzi.create_worker():
        await kagzi.options(queue="mail").start_workflow("greet", "Ada")
        done = await kagzi.start_workflow("greet", "Bob")
        await done.result(timeout=30)
        queues = {queue.queue: queue for queue in await checker.check_queues()}
        mail, unused = await checker.check_queue_health("mail"), await checker.check_queue_health("unused")
        report = await checker.comprehensive_check()

    assert report.status is DEGRADED
    assert (queues["mail"].status, queues["default"].status) == (DEGRADED, HEALTHY)
    assert (mail.status, mail.due) == (DEGRADED, 1)
    assert (unused.status, unused.due) == (HEALTHY, 0)


async def test_runs_that_wait_for_too_long_are_told(kagzi: Kagzi) -> None:
    checker = a_checker(kagzi, waiting_warning=0, waiting_timeout=0.05)
    async with kagzi, kagzi.create_worker(queues=["mail"]):
        await kagzi.options(queue="fax").start_workflow("greet", "Ada")

        async def is_late() -> bool:
            return (await checker.check_queue_health("fax")).status is UNHEALTHY

        await until(is_late)


@pytest.mark.parametrize("name", ["", "a\0b", None])
async def test_what_can_not_be_the_name_of_a_queue_is_refused(kagzi: Kagzi, name: Any) -> None:
    async with kagzi:
        with pytest.raises((ValueError, TypeError), match="the name of a queue"):
            await HealthChecker(kagzi).check_queue_health(name)


async def test_other_namespaces_play_no_part(any_database_url: str) -> None:
    ours, theirs = (an_application(any_database_url, namespace=name) for name in ("ours", "theirs"))
    theirs.register_workflow("greet", greet)
    async with ours, theirs:
        await theirs.start_workflow("greet", "Ada")
        async with theirs.create_worker(queues=["mail"]):
            report = await a_checker(ours).comprehensive_check()

    assert (report.workers, report.queues) == ((), ())
    assert report.status is DEGRADED


# -- virtual time ------------------------------------------------------------------------------------------------


async def test_in_an_environment_runs_wait_by_the_virtual_clock() -> None:
    kagzi = Kagzi("sqlite://")
    kagzi.register_workflow("greet", greet)
    async with Environment(kagzi) as env:
        handle = await kagzi.options(version=1, delay=3600).start_workflow("greet", "Ada")
        before = await a_checker(kagzi).comprehensive_check()
        await env.advance(3600)
        result = await handle.result()
        after = await a_checker(kagzi).check_queues()

    assert before.database.status is HEALTHY
    assert before.checked_at is not None
    assert [queue.due for queue in before.queues] == [0]
    assert result == "Hello, Ada!"
    assert [queue.due for queue in after] == [0]


# -- what it costs -----------------------------------------------------------------------------------------------


async def test_a_check_writes_nothing_and_asks_little(kagzi: Kagzi, store: WatchedStore) -> None:
    async with kagzi:
        before = dict(store.trips)
        await a_checker(kagzi).comprehensive_check()
        asked = {verb: count - before.get(verb, 0) for verb, count in store.trips.items()}

    assert {verb: count for verb, count in asked.items() if count} == {
        "probe": 2,
        "schema_status": 1,
        "replication_lag": 1,
        "backlog": 1,
        "workers": 1,
    }


async def test_many_checks_at_once_are_all_answered(kagzi: Kagzi) -> None:
    checker = a_checker(kagzi)
    async with kagzi, kagzi.create_worker():
        reports = await asyncio.gather(*(checker.comprehensive_check() for _ in range(50)))

    assert {report.status for report in reports} == {HEALTHY}
