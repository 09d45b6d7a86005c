"""Workers by name and queue: who is there, what they carry, and how one is drained.

    python examples/worker_management.py

Two workers in one process here; in earnest each is `kagzi worker module:app --queue NAME`, looked at by
`kagzi workers list` and sent home by `kagzi workers drain NAME`. Runs are kept in kagzi.db beside you, or where
KAGZI_DATABASE_URL says.
"""

import asyncio

from kagzi import Kagzi, WorkflowContext

kagzi = Kagzi()


async def send(address: str) -> str:
    await asyncio.sleep(0.05)
    return f"sent to {address}"


@kagzi.workflow("send-mail")
async def send_mail(ctx: WorkflowContext, address: str) -> str:
    return await ctx.step("send", send, address)


async def main() -> None:
    fast = (
        kagzi.create_worker_builder()
        .worker_id("fast")
        .queues(["urgent"])
        .max_concurrent_workflows(50)
        .heartbeat_interval_secs(0.2)
        .lease_secs(2)
        .graceful_shutdown_timeout_secs(10)
        .build()
    )
    slow = kagzi.create_worker(
        worker_id="slow", queues=["mail", "urgent"], max_concurrent_workflows=5, heartbeat_interval=0.2, lease=2
    )
    async with kagzi, fast, slow:
        for worker in sorted(await kagzi.find_workers(), key=lambda each: each.worker_id):
            print(f"{worker.worker_id}: queues {', '.join(worker.queues)}, {worker.slots} slots")

        urgent = await send_mail.options(queue="urgent").start("the fire brigade")
        print(await urgent.result(timeout=30))

        await kagzi.drain_worker("fast")  # from any process: it finishes its steps, gives its runs back, and stops
        await fast.shutdown()  # returns once it has
        print(f"fast: {fast.state}")

        mails = await kagzi.start_many(send_mail, ["Ada", "Grace"], queue="mail")
        print([await handle.result(timeout=30) for handle in mails])


if __name__ == "__main__":
    asyncio.run(main())
