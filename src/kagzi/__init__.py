"""Kagzi: durable workflows in plain asyncio, on the database you already have."""

from kagzi.app.health import HealthChecker
from kagzi.app.kagzi import Kagzi
from kagzi.authoring.builder import StepBuilder
from kagzi.authoring.calls import StepCall
from kagzi.authoring.children import ChildHandle
from kagzi.authoring.context import WorkflowContext
from kagzi.authoring.events import Event
from kagzi.authoring.groups import ParallelErrorStrategy, ParallelExecutor
from kagzi.authoring.options import NOT_EXECUTED
from kagzi.authoring.pending import Pending
from kagzi.authoring.results import Err, Ok
from kagzi.authoring.signals import Signal, Update, UpdateRequest
from kagzi.authoring.steps import StepInfo, step, step_info
from kagzi.authoring.sync_context import SyncChildHandle, SyncUpdateRequest, SyncWorkflowContext
from kagzi.authoring.sync_groups import SyncParallelExecutor
from kagzi.client.handles import WorkflowHandle
from kagzi.client.workflow import Workflow
from kagzi.errors import (
    ChildFailed,
    ConfigError,
    ConflictError,
    DivergenceError,
    KagziError,
    MigrationError,
    NonRetryable,
    OutcomeUnknown,
    Parked,
    PayloadError,
    PayloadTooLarge,
    RetryAfter,
    RunClosed,
    RunNotFound,
    StepFailed,
    StepInterrupted,
    StoreUnavailable,
    VersionDeprecated,
    VersionNotFound,
    WorkerNotFound,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowIOError,
    WorkflowNotRegistered,
)
from kagzi.model.bulk import BulkOutcome
from kagzi.model.child import ParentClose
from kagzi.model.error import ErrorKind, StepError
from kagzi.model.health import (
    DatabaseHealth,
    HealthCheckConfig,
    HealthReport,
    HealthStatus,
    QueueHealth,
    WorkerHealth,
)
from kagzi.model.retry import RetryPolicy
from kagzi.model.run import MessageKind, Run, RunStatus, Undelivered
from kagzi.model.step import Attempt, Step, StepKind, StepStatus
from kagzi.model.version import WorkflowVersion
from kagzi.model.worker import RegisteredWorker, WorkerState
from kagzi.payloads import PayloadCodec
from kagzi.rules.retries import RetryPredicate
from kagzi.settings import Settings
from kagzi.worker.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "NOT_EXECUTED",
    "Attempt",
    "BulkOutcome",
    "ChildFailed",
    "ChildHandle",
    "ConfigError",
    "ConflictError",
    "DatabaseHealth",
    "DivergenceError",
    "Err",
    "ErrorKind",
    "Event",
    "HealthCheckConfig",
    "HealthChecker",
    "HealthReport",
    "HealthStatus",
    "Kagzi",
    "KagziError",
    "MessageKind",
    "MigrationError",
    "NonRetryable",
    "Ok",
    "OutcomeUnknown",
    "ParallelErrorStrategy",
    "ParallelExecutor",
    "ParentClose",
    "Parked",
    "PayloadCodec",
    "PayloadError",
    "PayloadTooLarge",
    "Pending",
    "QueueHealth",
    "RegisteredWorker",
    "RetryAfter",
    "RetryPolicy",
    "RetryPredicate",
    "Run",
    "RunClosed",
    "RunNotFound",
    "RunStatus",
    "Settings",
    "Signal",
    "Step",
    "StepBuilder",
    "StepCall",
    "StepError",
    "StepFailed",
    "StepInfo",
    "StepInterrupted",
    "StepKind",
    "StepStatus",
    "StoreUnavailable",
    "SyncChildHandle",
    "SyncParallelExecutor",
    "SyncUpdateRequest",
    "SyncWorkflowContext",
    "Undelivered",
    "Update",
    "UpdateRequest",
    "VersionDeprecated",
    "VersionNotFound",
    "Worker",
    "WorkerHealth",
    "WorkerNotFound",
    "WorkerState",
    "Workflow",
    "WorkflowCancelled",
    "WorkflowContext",
    "WorkflowFailed",
    "WorkflowHandle",
    "WorkflowIOError",
    "WorkflowNotRegistered",
    "WorkflowVersion",
    "__version__",
    "step",
    "step_info",
]
