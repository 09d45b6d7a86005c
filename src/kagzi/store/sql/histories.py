"""The rows of operations that come with a claim: finished ones are history, open ones count executions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar

from kagzi.model.run import RunId
from kagzi.model.step import StepKind, StepRecord, StepStatus, Tries


class Row(Protocol):
    """A row, its columns by place."""

    def __getitem__(self, place: int, /) -> Any:
        """One column."""


R = TypeVar("R", bound=Row)

_RUN, _STEP, _SEQ, _KIND, _STATUS, _ATTEMPTS = 0, 1, 2, 3, 4, 7
_CHILD, _WAKE_AT, _EARLIER, _RUN_ATTEMPT, _IN_DOUBT, _DETAILS = 10, 11, 12, 13, 15, 16

_FIRST_ATTEMPT = 0, 1


class Histories(NamedTuple):
    """What is known of the operations of some runs: each by run_id, all but `records` then by step_id.

    `left_open` are those of `children` that were begun by earlier attempts of the run.
    """

    records: dict[str, list[StepRecord]]
    tries: dict[str, dict[str, Tries]]
    earlier: dict[str, dict[str, StepRecord]]
    children: dict[str, dict[str, RunId]]
    left_open: dict[str, set[str]]

    def crashes_since(self, run_id: str, *, crashes: int, progress: int) -> int:
        """How many of a run's crashes are in a row: none where something was recorded beyond `progress`."""
        records = self.records.get(run_id)
        last = (
            records[-1].seq if records else max((each.seq for each in self.earlier.get(run_id, {}).values()), default=0)
        )
        return crashes if last <= progress else 0


def sort_histories(
    rows: Iterable[R],
    as_record: Callable[[R], StepRecord],
    *,
    reopened: Mapping[str, tuple[int, int]],
    as_moment: Callable[[Any], datetime | None],
) -> Histories:
    """Sort rows (run_id, step_id, seq, kind, status, output, error, attempts, ..., child_run_id, wake_at,
    earlier_attempts, run_attempt, message, in_doubt, heartbeat_details).

    `reopened` says up to which `seq` a run's operations belong to its earlier attempts, and the number of its present
    one; runs in their first are not in it. A row that shows an execution in progress counts those before it: what a
    crash interrupted is not used up.
    """
    histories = Histories(defaultdict(list), defaultdict(dict), defaultdict(dict), defaultdict(dict), defaultdict(set))
    records = histories.records
    for row in rows:
        seq = row[_SEQ]
        if seq is None and row[_KIND] == StepKind.CHILD:
            histories.children[row[_RUN]][row[_STEP]] = row[_CHILD]
            if row[_RUN_ATTEMPT] != reopened.get(row[_RUN], _FIRST_ATTEMPT)[1]:
                histories.left_open[row[_RUN]].add(row[_STEP])
        elif seq is None:
            used = row[_ATTEMPTS] - 1 if row[_STATUS] == StepStatus.RUNNING else row[_ATTEMPTS]
            if used > 0 or row[_IN_DOUBT] or row[_DETAILS] is not None:
                _, attempt = reopened.get(row[_RUN], _FIRST_ATTEMPT)
                is_of_an_earlier = row[_RUN_ATTEMPT] != attempt  # which left it open
                histories.tries[row[_RUN]][row[_STEP]] = Tries(
                    used=used,
                    earlier=used if is_of_an_earlier else row[_EARLIER],
                    wake_at=None if is_of_an_earlier else as_moment(row[_WAKE_AT]),
                    in_doubt=bool(row[_IN_DOUBT]),
                    heartbeat_details=row[_DETAILS],
                )
        elif not reopened or seq > reopened.get(row[_RUN], _FIRST_ATTEMPT)[0]:
            records[row[_RUN]].append(as_record(row))
        elif row[_STATUS] == StepStatus.FAILED and row[_KIND] != StepKind.CHILD:
            # What failed is executed anew, with all that its policy allows.
            histories.tries[row[_RUN]][row[_STEP]] = Tries(
                used=row[_ATTEMPTS],
                earlier=row[_ATTEMPTS],
                in_doubt=bool(row[_IN_DOUBT]),
                heartbeat_details=row[_DETAILS],
            )
        else:
            histories.earlier[row[_RUN]][row[_STEP]] = as_record(row)
    return histories
