"""Kagzi: durable workflows in plain asyncio, on the database you already have."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kagzi.app.kagzi import Kagzi
    from kagzi.authoring.calls import StepCall
    from kagzi.authoring.context import WorkflowContext
    from kagzi.authoring.steps import StepInfo, step, step_info
    from kagzi.client.handles import WorkflowHandle
    from kagzi.client.workflow import Workflow
    from kagzi.errors import (
        ChildFailed,
        ConfigError,
        ConflictError,
        DivergenceError,
        KagziError,
        MigrationError,
        OutcomeUnknown,
        Parked,
        PayloadError,
        PayloadTooLarge,
        RunClosed,
        RunNotFound,
        StepFailed,
        StoreUnavailable,
        VersionNotFound,
        WorkflowCancelled,
        WorkflowFailed,
        WorkflowIOError,
        WorkflowNotRegistered,
    )
    from kagzi.model.error import ErrorKind, StepError
    from kagzi.model.run import Run, RunStatus
    from kagzi.model.step import Step, StepKind, StepStatus
    from kagzi.payloads import PayloadCodec
    from kagzi.settings import Settings
    from kagzi.worker.worker import Worker
else:
    # Everything is imported when it is first asked for, or `kagzi --help` would wait for the engine: 190 ms, not 75.
    _HOMES = {
        "kagzi.app.kagzi": ("Kagzi",),
        "kagzi.authoring.calls": ("StepCall",),
        "kagzi.authoring.context": ("WorkflowContext",),
        "kagzi.authoring.steps": ("StepInfo", "step", "step_info"),
        "kagzi.client.handles": ("WorkflowHandle",),
        "kagzi.client.workflow": ("Workflow",),
        "kagzi.errors": (
            "ChildFailed",
            "ConfigError",
            "ConflictError",
            "DivergenceError",
            "KagziError",
            "MigrationError",
            "OutcomeUnknown",
            "Parked",
            "PayloadError",
            "PayloadTooLarge",
            "RunClosed",
            "RunNotFound",
            "StepFailed",
            "StoreUnavailable",
            "VersionNotFound",
            "WorkflowCancelled",
            "WorkflowFailed",
            "WorkflowIOError",
            "WorkflowNotRegistered",
        ),
        "kagzi.model.error": ("ErrorKind", "StepError"),
        "kagzi.model.run": ("Run", "RunStatus"),
        "kagzi.model.step": ("Step", "StepKind", "StepStatus"),
        "kagzi.payloads": ("PayloadCodec",),
        "kagzi.settings": ("Settings",),
        "kagzi.worker.worker": ("Worker",),
    }
    _HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

    def __getattr__(name):
        from importlib import import_module

        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(_HOME_OF[name]), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


__version__ = "0.1.0"

__all__ = [
    "ChildFailed",
    "ConfigError",
    "ConflictError",
    "DivergenceError",
    "ErrorKind",
    "Kagzi",
    "KagziError",
    "MigrationError",
    "OutcomeUnknown",
    "Parked",
    "PayloadCodec",
    "PayloadError",
    "PayloadTooLarge",
    "Run",
    "RunClosed",
    "RunNotFound",
    "RunStatus",
    "Settings",
    "Step",
    "StepCall",
    "StepError",
    "StepFailed",
    "StepInfo",
    "StepKind",
    "StepStatus",
    "StoreUnavailable",
    "VersionNotFound",
    "Worker",
    "Workflow",
    "WorkflowCancelled",
    "WorkflowContext",
    "WorkflowFailed",
    "WorkflowHandle",
    "WorkflowIOError",
    "WorkflowNotRegistered",
    "__version__",
    "step",
    "step_info",
]
