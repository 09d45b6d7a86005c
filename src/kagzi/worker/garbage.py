"""The garbage collector of a process that is a worker and nothing else."""

from __future__ import annotations

import gc

_NEW_OBJECTS = 10_000


def tune() -> None:
    """Have the collector leave alone what was imported, and come less often: call it once everything is loaded.

    A worker full of runs has made Python's default of 700 new objects every few milliseconds, and none of them is
    garbage: an execution leaves no circles. Those of steps are found a little later. `kagzi worker` does this; a worker
    beside an application's own code leaves the collector as that has it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 10, 10)
