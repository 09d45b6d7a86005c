"""Every error that Kagzi raises, drawn in one place.

    KagziError
    ├─ ConfigError
    ├─ StoreUnavailable
    ├─ MigrationError
    ├─ OutcomeUnknown
    ├─ WorkflowNotRegistered
    ├─ VersionNotFound
    ├─ ConflictError
    ├─ RunNotFound
    ├─ RunClosed
    ├─ PayloadError
    │  └─ PayloadTooLarge
    ├─ WorkflowFailed
    ├─ WorkflowCancelled
    ├─ StepFailed
    │  └─ ChildFailed
    ├─ DivergenceError
    └─ WorkflowIOError

    BaseException
    └─ Parked

Every error keeps its fields and pickles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kagzi.model.error import StepError


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


class ConflictError(KagziError):
    """A run with this id exists, started with another workflow or another input."""

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
    """The run has ended, so it takes no more messages."""

    def __init__(self, run_id: str, status: str) -> None:
        self.run_id = run_id
        self.status = status
        super().__init__(f"run {run_id} has ended ({status}) and takes no more messages.")


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


class ChildFailed(StepFailed):
    """A child workflow failed; `error` says why and `child_run_id` which."""

    def __init__(self, step: str, error: StepError, *, child_run_id: str) -> None:
        super().__init__(step, error)
        self.child_run_id = child_run_id


class DivergenceError(KagziError):
    """The workflow's code no longer fits the run's record. `expected` is what the record holds, `found` what ran."""

    def __init__(self, message: str, *, expected: tuple[str, ...], found: tuple[str, ...]) -> None:
        self.expected = expected
        self.found = found
        super().__init__(message)


class WorkflowIOError(KagziError):
    """The workflow body tried to touch the world itself. `call` names how; the cure is to do it in a step."""

    def __init__(self, call: str, cure: str) -> None:
        self.call = call
        super().__init__(f"{call} is not possible in a workflow body: it would not be repeatable. {cure}")


class Parked(BaseException):
    """The run leaves memory at this await and goes on later, maybe elsewhere. Never catch it."""
