"""Kagzi for code that blocks: Django and Flask views, scripts, notebooks' threads.

`Kagzi` here has every client verb of the async one, under the same names, with the same arguments and errors; each
waits until it is done. Use it from any thread, as many as you like.
"""

from kagzi.blocking.twins import (
    BoundWorkflow,
    HealthChecker,
    Kagzi,
    OptionView,
    Worker,
    WorkerBuilder,
    Workflow,
    WorkflowHandle,
)

__all__ = [
    "BoundWorkflow",
    "HealthChecker",
    "Kagzi",
    "OptionView",
    "Worker",
    "WorkerBuilder",
    "Workflow",
    "WorkflowHandle",
]
