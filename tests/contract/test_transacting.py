"""Transactions of users: `Store.transact` and `Store.transacted`."""

from __future__ import annotations

import msgspec
import pytest

from kagzi.errors import KagziError
from kagzi.model.change import Applied, Change
from kagzi.model.claim import Claim
from kagzi.model.run import WorkerKey
from kagzi.model.transaction import Transaction
from kagzi.store.protocol import Store
from tests.contract.builders import a_change, a_record, commit, given_back, kill, start_and_claim

NOTES = "CREATE TABLE notes (note text)"


class Note:
    """A transaction that writes into a table of the user's: what a store is given by the engine."""

    def __init__(self, claim: Claim, *statements: str, settled: Change | None = None) -> None:
        self.run_id: str = claim.run_id
        self.is_given_up = False
        self.change: Change | None = None
        self.turns = 0
        self._statements = statements or ("INSERT INTO notes VALUES ('done')",)
        self._settled = settled or a_change(claim, a_record())

    def is_overdue(self) -> bool:
        return False

    async def execute(self, connection: object) -> list[str]:
        return [str(await connection.execute(sql)) for sql in self._statements]  # type: ignore[attr-defined] # asyncpg's

    def execute_here(self, connection: object) -> list[str]:
        return [str(connection.execute(sql)) for sql in self._statements]  # type: ignore[attr-defined] # apsw's

    async def turn(self) -> None:
        self.turns += 1

    def settle(self, value: object) -> Change:
        self.change = self._settled
        return self._settled


class Reader(Note):
    """Reads the notes."""

    async def execute(self, connection: object) -> list[str]:
        self.found = [row[0] for row in await connection.fetch("SELECT note FROM notes")]  # type: ignore[attr-defined]
        return self.found

    def execute_here(self, connection: object) -> list[str]:
        self.found = [row[0] for row in connection.execute("SELECT note FROM notes")]  # type: ignore[attr-defined]
        return self.found


_: type[Transaction] = Note


@pytest.fixture
async def claim(store: Store, worker: WorkerKey) -> Claim:
    """A run that is ours, in a database where notes can be written."""
    claim = await start_and_claim(store, worker)
    await store.transact(Note(claim, NOTES, settled=a_change(claim, a_record(1, step_id="0/table#1"))))
    return claim


def second(claim: Claim) -> Change:
    return a_change(claim, a_record(2, step_id="0/note#1"))


async def notes(store: Store, worker: WorkerKey) -> list[str]:
    """What is written, read in the transaction of another run."""
    reader = Reader(await start_and_claim(store, worker))
    await store.transact(reader)
    return reader.found


async def test_a_transaction_writes_the_users_rows_and_the_record(
    store: Store, worker: WorkerKey, claim: Claim
) -> None:
    """P12."""
    note = Note(claim, settled=second(claim))

    written = await store.transact(note)

    assert written.outcome is Applied.APPLIED
    assert note.turns == 1
    assert await notes(store, worker) == ["done"]
    stored = await store.steps(claim.run_id)
    assert [(step.step_id, step.seq, step.finished_at) for step in stored][1] == ("0/note#1", 2, written.at)
    again = await store.transacted(second(claim))
    assert again is not None
    assert (again.outcome, again.at) == (Applied.ALREADY, written.at)


@pytest.mark.parametrize("how", ["fence", "released", "recovered"])
async def test_a_transaction_of_a_run_that_is_not_ours_leaves_nothing(
    store: Store, worker: WorkerKey, claim: Claim, how: str
) -> None:
    """P5, P6, P12."""
    change = second(claim)
    if how == "fence":
        change = msgspec.structs.replace(change, fence=claim.fence + 1)
    elif how == "released":
        await commit(store, a_change(claim, transition=given_back()))
    else:
        await kill(store, worker)

    written = await store.transact(Note(claim, settled=change))

    assert written.outcome is Applied.LOST
    if how == "fence":
        assert await notes(store, worker) == []
    assert len(await store.steps(claim.run_id)) == 1
    answer = await store.transacted(change)
    assert answer is not None
    assert answer.outcome is Applied.LOST


async def test_a_transaction_whose_sql_fails_leaves_nothing(store: Store, worker: WorkerKey, claim: Claim) -> None:
    note = Note(claim, "INSERT INTO notes VALUES ('done')", "SELECT 1 FROM nowhere", settled=second(claim))

    with pytest.raises(Exception, match="nowhere"):
        await store.transact(note)

    assert await notes(store, worker) == []
    assert len(await store.steps(claim.run_id)) == 1
    assert await store.transacted(second(claim)) is None
    assert (await store.transact(Note(claim, settled=second(claim)))).outcome is Applied.APPLIED


async def test_a_function_can_not_end_the_transaction_that_it_is_given(
    store: Store, worker: WorkerKey, claim: Claim
) -> None:
    for ending in (["COMMIT"], ["COMMIT", "BEGIN"], ["ROLLBACK"]):
        with pytest.raises(Exception, match=r"ended the transaction itself|not authorized") as raised:
            await store.transact(Note(claim, *ending, settled=second(claim)))
        assert isinstance(raised.value, KagziError) or "not authorized" in str(raised.value)

    assert len(await store.steps(claim.run_id)) == 1
    assert await notes(store, worker) == []


async def test_a_record_that_is_there_is_not_written_again(store: Store, worker: WorkerKey, claim: Claim) -> None:
    """P11, P12: a transaction that is executed again though it was committed undoes itself."""
    first = await store.transact(Note(claim, settled=second(claim)))

    again = await store.transact(Note(claim, settled=second(claim)))

    assert again.outcome is Applied.ALREADY
    assert again.at == first.at
    assert await notes(store, worker) == ["done"]
