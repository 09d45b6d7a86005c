"""Telling which verb of the store a PostgreSQL statement carries out."""

from __future__ import annotations

from enum import Enum


class Verb(Enum):
    """What the statements do that faults are aimed at."""

    START = "start"
    CLAIM = "claim"
    HISTORY = "history"
    CHECKPOINT = "checkpoint"
    FAILURE = "failure"
    MARK = "mark"
    REOPENING = "reopening"
    PARK = "park"
    COMPLETION = "completion"
    HEARTBEAT = "heartbeat"
    POST = "post"
    CANCEL = "cancel"
    RETRY = "retry"
    FORK = "fork"
    CONTINUING = "continuing"
    PAUSE = "pause"
    RESUME = "resume"
    COMMIT = "commit"


def verb_of(sql: str, arguments: bytes) -> Verb | None:
    """The verb of a statement; None for those that no fault is aimed at.

    Checkpoints may travel together with a park or a completion, which the arguments then tell.
    """
    if b'"continues":' in arguments:
        return Verb.CONTINUING
    if "outlives" in sql:
        return Verb.RETRY
    if "kept AS MATERIALIZED" in sql:
        return Verb.FORK
    if 'INSERT INTO "kagzi".workflow_runs' in sql and "awaiting AS" not in sql:  # those are children
        return Verb.START
    if "at_once boolean" in sql:
        return Verb.CANCEL
    if "judged AS MATERIALIZED" in sql and 'INSERT INTO "kagzi".messages' in sql:
        return Verb.POST
    if "judged AS MATERIALIZED" in sql and "paused_at = " in sql:
        return Verb.RESUME if "paused_at = NULL" in sql else Verb.PAUSE
    if "status = 'RUNNING', fence = w.fence + 1" in sql:
        return Verb.CLAIM
    if "marked AS" in sql and b'"attempt":' in arguments and b'"message":' not in arguments:
        return Verb.MARK
    if 'INSERT INTO "kagzi".step_attempts' in sql and b'"attempt":' in arguments:
        return Verb.FAILURE
    if b'"reopened_seq":' in arguments:
        return Verb.REOPENING
    if "status = t.status" in sql:
        return Verb.COMPLETION if b"COMPLETED" in arguments else Verb.PARK if b"SLEEPING" in arguments else None
    if 'INSERT INTO "kagzi".step_runs' in sql and "finished_at" in sql:
        return Verb.CHECKPOINT
    if 'FROM "kagzi".step_runs' in sql and "AS asked (run_id)" in sql:
        return Verb.HISTORY
    if "lease_until = now() + $2" in sql:
        return Verb.HEARTBEAT
    return None
