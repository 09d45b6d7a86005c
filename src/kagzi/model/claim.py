"""Taking runs off a queue."""

from __future__ import annotations

from datetime import datetime

import msgspec

from kagzi.model.message import Message
from kagzi.model.run import RunId, WorkerKey
from kagzi.model.step import StepRecord, Tries


class ClaimRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs a worker can take: at most `slots`, of these `queues` and these (workflow, version) pairs."""

    worker: WorkerKey
    namespace: str
    queues: tuple[str, ...]
    workflows: tuple[tuple[str, int], ...]
    slots: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is now ours under `fence`, with its history in order of `seq`.

    `tries` are the executions already used by operations that are not finished, by step_id. `parked` is the encoded
    ParkedAt of its last park, None where it never has.

    Where the run is in a later attempt, `history` holds only what this attempt has recorded (after `reopened_seq`), and
    `earlier` what the ones before it finished, by step_id: it is handed out when the body asks for it. `started_at` is
    when this attempt was first taken, and where workflow time begins. `crashes` counts the workers that died with it in
    a row, without anything having been recorded since the first of them.

    `children` are the runs that were started by operations which are not finished, by step_id; earlier attempts of the
    run have begun those in `left_open`.

    `seed` is the run by whose id its chance is seeded, where that is another.

    `inbox` counts the messages that ever came, and `mail` holds those that no record has received.
    """

    run_id: RunId
    id: str | None
    workflow: str
    version: int
    queue: str
    priority: int
    input: str
    fence: int
    inbox: int
    attempts: int
    started_at: datetime
    parent_run_id: RunId | None = None
    history: tuple[StepRecord, ...] = ()
    tries: dict[str, Tries] = {}
    parked: str | None = None
    earlier: dict[str, StepRecord] = {}
    reopened_seq: int = 0
    crashes: int = 0
    mail: tuple[Message, ...] = ()
    children: dict[str, RunId] = {}
    left_open: frozenset[str] = frozenset()
    seed: RunId | None = None


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a claim. `next_due` is when the next run of these queues and workflows falls due, None where none
    is known or where the claim filled every slot (claim again then)."""

    claims: tuple[Claim, ...]
    now: datetime
    next_due: datetime | None = None
