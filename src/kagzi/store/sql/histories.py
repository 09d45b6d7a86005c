"""The rows of operations that come with a claim: finished ones are history, open ones count attempts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from kagzi.model.step import StepRecord, StepStatus


class Row(Protocol):
    """A row, its columns by place."""

    def __getitem__(self, place: int, /) -> Any:
        """One column."""


R = TypeVar("R", bound=Row)

_RUN, _STEP, _SEQ, _STATUS, _ATTEMPTS = 0, 1, 2, 4, 7


def sort_histories(
    rows: Iterable[R], as_record: Callable[[R], StepRecord]
) -> tuple[dict[str, list[StepRecord]], dict[str, dict[str, int]]]:
    """Sort rows (run_id, step_id, seq, kind, status, output, error, attempts, ...) into histories and attempts used.

    A row that shows an attempt in progress counts those before it: what a crash interrupted is not used up.
    """
    histories: dict[str, list[StepRecord]] = defaultdict(list)
    tries: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        if row[_SEQ] is not None:
            histories[row[_RUN]].append(as_record(row))
            continue
        used = row[_ATTEMPTS] - 1 if row[_STATUS] == StepStatus.RUNNING else row[_ATTEMPTS]
        if used > 0:
            tries[row[_RUN]][row[_STEP]] = used
    return histories, tries
