"""One workload in a process of its own, so that none inherits the memory of another: an order in, a measurement out."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from benchmarks.databases import empty_database
from benchmarks.limits import measure_limits
from benchmarks.looping import run
from benchmarks.measurement import Measurement, Order
from benchmarks.workloads import WORKLOADS

_LONGEST_S = 600.0


async def _measure(order: Order) -> Measurement:
    with empty_database(order.store, order.url) as database:
        async with asyncio.timeout(_LONGEST_S):
            limits = await measure_limits(database)
            answer = await WORKLOADS[order.workload].measure(database, order.load, limits)
    return Measurement(order=order, limits=limits, answer=answer)


if __name__ == "__main__":
    measurement = run(_measure(msgspec.json.decode(sys.stdin.buffer.read(), type=Order)))
    sys.stdout.buffer.write(msgspec.json.encode(measurement))
