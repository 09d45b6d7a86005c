"""A wrong wall clock."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

VARIABLE = "KAGZI_FAULT_CLOCK_OFFSET"


def shift_wall_clock() -> None:
    """Have this process believe that it is another time, by as many seconds as the environment says."""
    offset_s = float(os.environ.get(VARIABLE, "0"))
    if offset_s:
        import time_machine

        time_machine.travel(datetime.now().astimezone() + timedelta(seconds=offset_s), tick=True).start()
