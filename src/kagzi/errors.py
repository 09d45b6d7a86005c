"""Every error that Kagzi raises, drawn in one place.

    KagziError
    ├─ ConfigError
    ├─ StoreUnavailable
    ├─ MigrationError
    ├─ OutcomeUnknown
    ├─ WorkflowNotRegistered
    ├─ VersionNotFound
    │  └─ VersionDeprecated
    ├─ ConflictError
    ├─ RunNotFound
    ├─ RunClosed
    ├─ WorkerNotFound
    ├─ PayloadError
    │  └─ PayloadTooLarge
    ├─ WorkflowFailed
    ├─ WorkflowCancelled
    ├─ StepFailed
    │  ├─ StepInterrupted
    │  └─ ChildFailed
    ├─ DivergenceError
    ├─ WorkflowIOError
    ├─ NonRetryable
    └─ RetryAfter

    BaseException
    ├─ Parked
    └─ ContinueAsNew

Every error keeps its fields and pickles.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from kagzi.model.error import ErrorKind, StepError
from kagzi.model.retry import LONGEST_DELAY


class KagziError(Exception):
    """The root of every error of Kagzi."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by message and fields, whatever the subclass's own arguments are."""
        return _revive, (type(self), self.args, self.__dict__)


def _revive(kind: type[KagziError], args: tuple[Any, ...], fields: dict[str, Any]) -> KagziError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class ConfigError(KagziError):
    """Something about the application is set up wrongly: a setting, a URL, a signature."""


class StoreUnavailable(KagziError):
    """The database can't be reached, or did not answer before the deadline. Nothing is known to have been written."""


class MigrationError(KagziError):
    """The schema could not be brought to the version that this release needs."""


class OutcomeUnknown(KagziError):
    """The connection was lost during a write and it could not be found out in time whether it took effect.

    Doing the same call again, with the same id, is safe.
    """


class WorkflowNotRegistered(KagziError):
    """The workflow's name is not known to this application."""

    def __init__(self, workflow: str, *, known: tuple[str, ...] = ()) -> None:
        self.workflow = workflow
        self.known = known
        listing = ", ".join(sorted(known)) or "none"
        super().__init__(
            f"workflow {workflow!r} is not registered in this application; it knows: {listing}. "
            "Import the module that defines it, or register it with @kagzi.workflow."
        )


class VersionNotFound(KagziError):
    """The workflow has no such version."""

    def __init__(self, workflow: str, version: int, *, known: tuple[int, ...] = ()) -> None:
        self.workflow = workflow
        self.version = version
        self.known = known
        listing = ", ".join(map(str, sorted(known))) or "none"
        super().__init__(
            f"workflow {workflow!r} has no version {version}; this application knows: {listing}. "
            f"Register version {version}, or ask for one of those."
        )


class VersionDeprecated(VersionNotFound):
    """The version gets no new runs any more. `usable` are those known here that do."""

    def __init__(self, workflow: str, version: int, *, usable: tuple[int, ...] = ()) -> None:
        super().__init__(workflow, version, known=usable)
        listing = ", ".join(map(str, sorted(usable)))
        there = f"versions that get new runs: {listing}" if usable else "this application knows no version that does"
        self.args = (
            f"version {version} of workflow {workflow!r} is deprecated: its runs go on, but it gets no new ones; "
            f"{there}. Start another version, or take it back with undeprecate_workflow_version.",
        )


class ConflictError(KagziError):
    """A run with this id exists, started with another workflow or another input; or something else is in the way."""

    def __init__(self, message: str, *, id: str, run_id: str) -> None:  # noqa: A002 - the public name of the field
        self.id = id
        self.run_id = run_id
        super().__init__(message)


class RunNotFound(KagziError):
    """No run has this id."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"no run has the id {run_id!r} in this namespace. Check the id, and the database URL.")


class RunClosed(KagziError):
    """The run has ended, so it takes no more messages; or `is_ending`: it was asked to end, so it is not paused; or
    `is_unanswered`: it got the update before it ended, and has not answered it."""

    def __init__(self, run_id: str, status: str, *, is_ending: bool = False, is_unanswered: bool = False) -> None:
        self.run_id = run_id
        self.status = status
        self.is_ending = is_ending
        self.is_unanswered = is_unanswered
        told = f"run {run_id} has ended ({status}) and takes no more messages."
        if is_ending:
            told = (
                f"run {run_id} was asked to end ({status}), so it can't be paused. Its body has KAGZI_CANCEL_GRACE "
                "to clean up, and what is to be undone is; `terminate` ends it at once."
            )
        elif is_unanswered:
            told = (
                f"run {run_id} has ended ({status}) without a reply to the update. Whether its body had received it is "
                "in `history()`; what it had not is in `describe().undelivered`."
            )
        super().__init__(told)


class WorkerNotFound(KagziError):
    """No living worker has this name, or several have."""

    def __init__(self, worker_id: str, *, living: tuple[str, ...] = (), several: bool = False) -> None:
        self.worker_id = worker_id
        self.living = living
        self.several = several
        names = ", ".join(living) or "none"
        super().__init__(
            f"{worker_id!r} could be any of these workers: {names}. Write more of the name, or a registration's key."
            if several
            else f"no living worker has the name or key {worker_id!r}, nor one that begins so. There are: {names}."
        )


class PayloadError(KagziError):
    """A value can't be stored and brought back exactly. `path` says where in it (`$.items[3].price`), `step` whose."""

    def __init__(self, message: str, *, path: str = "$", step: str | None = None) -> None:
        self.path = path
        self.step = step
        super().__init__(message)


class PayloadTooLarge(PayloadError):
    """The encoded value is larger than the limit that is set."""


class WorkflowFailed(KagziError):
    """The run ended in failure; `error` says why."""

    def __init__(self, run_id: str, workflow: str, error: StepError) -> None:
        self.run_id = run_id
        self.workflow = workflow
        self.error = error
        super().__init__(f"run {run_id} of workflow {workflow!r} failed: {error.type}: {error.message}")


class WorkflowCancelled(KagziError):
    """The run was cancelled."""

    def __init__(self, run_id: str, reason: str | None = None) -> None:
        self.run_id = run_id
        self.reason = reason
        super().__init__(f"run {run_id} was cancelled" + (f": {reason}" if reason else "."))


class StepFailed(KagziError):
    """A step failed for good; `error` says why. The same error is raised again in every replay."""

    def __init__(self, step: str, error: StepError) -> None:
        self.step = step
        self.error = error
        super().__init__(f"step {step!r} failed: {error.type}: {error.message}")


class StepInterrupted(StepFailed):
    """A step that is executed at most once was begun, and nobody knows whether it happened: its worker died, or it took
    too long. It is not executed again; `error` is of kind INTERRUPTED, and its causes say what is known."""


class ChildFailed(StepFailed):
    """A child workflow failed or was cancelled; `error` says why and `child_run_id` which, empty where it was not even
    started."""

    def __init__(self, step: str, error: StepError, *, child_run_id: str) -> None:
        super().__init__(step, error)
        self.args = (f"child {step!r} failed: {error.type}: {error.message}",)
        self.child_run_id = child_run_id


class DivergenceError(KagziError):
    """The workflow's code no longer fits the run's record. `expected` is what the record goes on with, `found` what the
    code asks for instead, and `diff` the lines that show both after what fitted."""

    def __init__(
        self, message: str, *, expected: tuple[str, ...], found: tuple[str, ...], diff: tuple[str, ...] = ()
    ) -> None:
        self.expected = expected
        self.found = found
        self.diff = diff
        super().__init__(message)


class WorkflowIOError(KagziError):
    """The workflow body tried to touch the world itself. `call` names how; the cure is to do it in a step."""

    def __init__(self, call: str, cure: str) -> None:
        self.call = call
        super().__init__(f"{call} is not possible in a workflow body: it would not be repeatable. {cure}")


class NonRetryable(KagziError):
    """Raised by a step, or a workflow, that can't succeed by being tried again, whatever its retry policy says.

    `kind` says what sort of failure it is. `context` is kept in `StepError.context`: JSON values, and anything else
    as the text that `repr` gives.
    """

    def __init__(
        self,
        message: str = "trying again can't help",
        *,
        kind: ErrorKind = ErrorKind.BUSINESS_LOGIC_ERROR,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind = ErrorKind(kind)
        self.context = dict(context or {})
        super().__init__(message)


class RetryAfter(KagziError):
    """Raised by a step that is worth another attempt after `delay` (seconds or timedelta), and not before.

    The delay is between zero and a hundred years: what lies outside, such as the time until a moment that has passed,
    is brought inside. `kind` and `context` are those of `NonRetryable`. It counts against a policy's `max_attempts`;
    without a policy it is heeded each time.
    """

    def __init__(
        self,
        delay: float | timedelta,
        message: str | None = None,
        *,
        kind: ErrorKind = ErrorKind.RATE_LIMITED,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(delay, bool) or not isinstance(delay, int | float | timedelta):
            raise TypeError(f"RetryAfter takes seconds (a number) or a timedelta, not {type(delay).__name__}.")
        delay_s = delay.total_seconds() if isinstance(delay, timedelta) else delay
        if delay_s != delay_s:
            raise ValueError("RetryAfter takes a number of seconds, not NaN.")
        self.delay = timedelta(seconds=min(max(delay_s, 0), LONGEST_DELAY.total_seconds()))
        self.kind = ErrorKind(kind)
        self.context = dict(context or {})
        super().__init__(f"to be tried again in {self.delay}" if message is None else message)


class Parked(BaseException):
    """The run leaves memory at this await and goes on later, maybe elsewhere. Never catch it."""


class ContinueAsNew(BaseException):
    """The run ends at this call, and another takes its place. Never catch it.

    `input` is what that one begins with, encoded, and `version` its version.
    """

    def __init__(self, input: str, *, version: int) -> None:  # noqa: A002 - what it is
        self.input = input
        self.version = version
        super().__init__("the run continues as new")
