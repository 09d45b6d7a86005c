"""Changes of executions: one statement, one trip, one transaction, every change under its own run's row lock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kagzi.model.change import Applied, Change, Committed, Transition, has_rarities, is_receipt
from kagzi.model.step import StepRecord
from kagzi.store.postgres import commit_sql
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import array_text, rows_json
from kagzi.store.postgres.commit_batch import Batch
from kagzi.store.postgres.connections import Connections, Row


class Committer:
    """The verb `commit`."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._one_record = names.fill(commit_sql.ONE_RECORD)
        self._one_receipt = names.fill(commit_sql.ONE_RECEIPT)
        self._one_transition = names.fill(commit_sql.ONE_TRANSITION)
        self._records = names.fill(commit_sql.RECORDS)
        self._records_and_transitions = names.fill(commit_sql.RECORDS_AND_TRANSITIONS)
        self._everything = names.fill(commit_sql.EVERYTHING)
        self._runs_there = names.fill(commit_sql.RUNS_THERE)
        self._records_there = names.fill(commit_sql.RECORDS_THERE)

    async def commit(self, changes: Sequence[Change]) -> Committed:
        """One trip, and one or two more only where a change was refused or a record was there already."""
        if len(changes) == 1:
            rows = await self._commit_one(changes[0])
            if rows:
                return Committed(outcomes=_ONE_APPLIED, now=rows[0][0])
        return await self._commit_many(changes)

    async def _commit_one(self, change: Change) -> list[Row]:
        transition = change.transition
        if change.replaces:
            return []
        if has_rarities(change):
            if not is_receipt(change):
                return []
            (record,), (position,) = change.records, change.received
            arguments = (change.run_id, change.fence, *record_arguments(record), position)
            return await self._connections.fetch(self._one_receipt, *arguments)
        if transition is None:
            if len(change.records) == 1:
                return await self._connections.fetch(
                    self._one_record, change.run_id, change.fence, *record_arguments(change.records[0])
                )
        elif (
            not change.records
            and transition.reopened_seq is None
            and transition.parent is None
            and transition.continues is None
        ):
            return await self._connections.fetch(
                self._one_transition, change.run_id, change.fence, *_transition_arguments(transition)
            )
        return []

    async def _commit_many(self, changes: Sequence[Change]) -> Committed:
        batch = Batch(changes)
        arguments = [array_text(batch.runs), array_text(batch.fences), array_text(batch.record_places)]
        arguments.append(rows_json(batch.records))
        sql = self._records
        if batch.is_rare:
            arguments += array_text(batch.transition_places), rows_json(batch.transitions)
            arguments += array_text(batch.failed_places), rows_json(batch.failed)
            arguments += array_text(batch.received_places), rows_json(batch.received)
            arguments += array_text(batch.start_places), rows_json(batch.starts)
            arguments += array_text(batch.reply_places), rows_json(batch.replies)
            arguments += array_text(batch.published_places), rows_json(batch.published)
            arguments += array_text(batch.mark_places), rows_json(batch.marks)
            sql = self._everything
        elif batch.transitions:
            arguments += array_text(batch.transition_places), rows_json(batch.transitions)
            sql = self._records_and_transitions
        rows = await self._connections.fetch(sql, *arguments)
        now, mine, stored = rows[0][0], rows[0][1], rows[0][2]
        started = frozenset(rows[0][5] or ()) if batch.starts else frozenset()
        if mine is None and stored == len(batch.records) and len(started) == len(batch.starts):
            return Committed(outcomes=(Applied.APPLIED,) * len(changes), now=now)
        return await self._classify(changes, batch, now, mine)

    async def _classify(
        self, changes: Sequence[Change], batch: Batch, now: datetime, mine: list[bool] | None
    ) -> Committed:
        runs = {
            row[0]: (row[1], row[2])
            for row in await self._connections.fetch(
                self._runs_there, list({*batch.runs, *(start.run_id for start in batch.starts)})
            )
        }
        # What replaces a record of an earlier attempt is not there while that one still is.
        wanted = [
            (change.run_id, record.step_id, record.seq if change.replaces else 0)
            for change in changes
            for record in change.records
        ]
        there = {
            (row[0], row[1]): row[2]
            for row in await self._connections.fetch(
                self._records_there,
                [run_id for run_id, _, _ in wanted],
                [step_id for _, step_id, _ in wanted],
                [from_seq for _, _, from_seq in wanted],
            )
        }
        outcomes: list[Applied] = []
        earlier: dict[int, datetime] = {}
        for place, change in enumerate(changes):
            owned = mine is None or mine[batch.places[change.run_id, change.fence] - 1]
            times = [there.get((change.run_id, record.step_id)) for record in change.records]
            outcome = _outcome(change, owned=owned, run=runs.get(change.run_id), times=times, now=now)
            if not all(start.run.run_id in runs for start in change.starts):
                outcome = Applied.TAKEN if owned else Applied.LOST
            outcomes.append(outcome)
            before = [time for time in times if time is not None and time != now]
            if before and outcome is not Applied.LOST:
                earlier[place] = max(before)
        return Committed(outcomes=tuple(outcomes), now=now, earlier=earlier)


_ONE_APPLIED = (Applied.APPLIED,)


def _outcome(
    change: Change,
    *,
    owned: bool,
    run: tuple[int, str] | None,
    times: list[datetime | None],
    now: datetime,
) -> Applied:
    """Tell our own earlier try from a lost lease.

    Everybody else who changes a run's status increments its fence, so equal fence and the status that we wanted mean
    that we wrote it. A record's time is the time of the transaction that stored it: ours is `now`.
    """
    if owned:
        new = change.transition is not None or not change.records or now in times
        return Applied.APPLIED if new else Applied.ALREADY
    if run is None or run[0] != change.fence or None in times:
        return Applied.LOST
    if change.transition is not None:
        return Applied.ALREADY if run[1] == change.transition.status.value else Applied.LOST
    if change.records or change.failed or change.returned or change.starts or change.marks:
        return Applied.ALREADY
    return Applied.LOST


def record_arguments(record: StepRecord) -> tuple[Any, ...]:
    """A record, for a statement that writes one."""
    return (
        record.step_id,
        record.seq,
        record.kind,
        record.status,
        record.output,
        record.error,
        record.attempts,
        record.started_at,
        record.child_run_id,
    )


def _transition_arguments(transition: Transition) -> tuple[Any, ...]:
    return (
        transition.status,
        transition.output,
        transition.error,
        transition.wake_at,
        transition.waits,
        transition.inbox,
        transition.parked,
    )
