"""Is everything well? Database, workers and queues, with what is wrong said in words.

    python examples/health_monitoring.py

`kagzi health` prints the same and exits with 1 where something is wrong; `kagzi worker --health-port 8080` answers
probes. Runs are kept in kagzi.db beside you, or where KAGZI_DATABASE_URL says.
"""

import asyncio

from kagzi import HealthCheckConfig, HealthChecker, Kagzi, WorkflowContext

kagzi = Kagzi()


@kagzi.workflow("tidy-up")
async def tidy_up(ctx: WorkflowContext) -> str:
    await ctx.sleep("a-while", 0.1)
    return "tidy"


async def report(checker: HealthChecker, when: str) -> None:
    health = await checker.comprehensive_check()
    print(f"{when}: {health.status}")
    print(f"  database: {health.database.status}, schema {health.database.schema_current}")
    for worker in health.workers:
        print(f"  worker {worker.worker_id}: {worker.status}")
    for queue in health.queues:
        print(f"  queue {queue.queue}: {queue.status}, {queue.depth} waiting")
    for reason in health.reasons:
        print(f"  {reason}")


async def main() -> None:
    checker = HealthChecker(kagzi, HealthCheckConfig(heartbeat_timeout=120, heartbeat_warning=60))
    async with kagzi:
        handle = await tidy_up.options(queue="chores").start()
        await report(checker, "before a worker is there")
        async with kagzi.create_worker(worker_id="caretaker", queues=["chores"]) as worker:
            print(await handle.result(timeout=30))
            print(f"caretaker is {(await checker.check_worker_health(worker)).status}")
            await report(checker, "with a worker")


if __name__ == "__main__":
    asyncio.run(main())
