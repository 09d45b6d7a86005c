"""An order in seven steps, each undone in reverse order where a later one fails.

    python examples/order_fulfillment.py            # all goes well
    python examples/order_fulfillment.py shipping   # no carrier comes: payment and stock are given back

Undoing is durable too: a crash in the middle of it goes on with what is still to be undone. Runs are kept in kagzi.db
beside you, or where KAGZI_DATABASE_URL says.
"""

import asyncio
import sys
from dataclasses import dataclass

from kagzi import Kagzi, NonRetryable, RetryPolicy, WorkflowContext, WorkflowFailed, step, step_info

kagzi = Kagzi()


@dataclass
class Order:
    number: str
    item: str
    cents: int
    trouble: str | None = None


def say(text: str) -> str:
    print(text, flush=True)
    return text


async def validate(order: Order) -> None:
    if order.cents <= 0:
        raise NonRetryable(f"order {order.number} costs nothing")
    say(f"1 order {order.number} is valid")


async def reserve_stock(order: Order) -> str:
    say(f"2 {order.item} reserved")
    return f"reservation-{order.number}"


async def charge(order: Order) -> str:
    # Whoever is paid twice by accident knows this key again.
    assert step_info().idempotency_key
    say(f"3 {order.cents / 100:.2f} charged")
    return f"payment-{order.number}"


async def pack(order: Order) -> None:
    say(f"4 {order.item} packed")


async def ship(order: Order) -> str:
    if order.trouble == "shipping":
        raise ConnectionError("no carrier answers")
    say("5 handed to the carrier")
    return f"parcel-{order.number}"


async def invoice(order: Order, payment: str) -> None:
    say(f"6 invoice for {payment}")


async def send_email(order: Order, parcel: str) -> None:
    say(f"7 e-mail about {parcel}")


# What undoes a step gets its result, and then what the step was called with.


async def release_stock(reservation: str, order: Order) -> None:
    say(f"undo: {reservation} released")


@step(retry=RetryPolicy.exponential(0.1, max_attempts=None))  # money is given back however long it takes
async def refund(payment: str, order: Order) -> None:
    say(f"undo: {payment} refunded")


async def unpack(packed: None, order: Order) -> None:
    say(f"undo: {order.item} unpacked")


@kagzi.workflow("fulfil-order", step_retry=RetryPolicy.exponential(0.02, maximum=5, max_attempts=3))
async def fulfil(ctx: WorkflowContext, order: Order) -> str:
    await ctx.step("validate", validate, order)
    await ctx.options(undo=release_stock).step("reserve-stock", reserve_stock, order)
    payment = await ctx.options(undo=refund).step("charge", charge, order)
    await ctx.options(undo=unpack).step("pack", pack, order)
    parcel = await ctx.step("ship", ship, order)
    await ctx.gather(
        ctx.step("invoice", invoice, order, payment),
        ctx.step("send-email", send_email, order, parcel),
    )
    return f"order {order.number} is on its way as {parcel}"


async def main(trouble: str | None) -> None:
    async with kagzi, kagzi.create_worker():
        handle = await fulfil.start(Order("1001", "lamp", 4000, trouble))
        try:
            print(await handle.result(timeout=30))
        except WorkflowFailed as failed:
            print(f"order 1001 was given up: {failed.error.message}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if sys.argv[1:] else None))
