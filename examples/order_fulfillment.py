"""An order in seven steps, each undone in reverse order where a later one fails.

    python examples/order_fulfillment.py            # all goes well
    python examples/order_fulfillment.py shipping   # no carrier comes: payment and stock are given back

Undoing is durable too: a crash in the middle of it goes on with what is still to be undone. Runs are kept in kagzi.db
beside you, or where KAGZI_DATABASE_URL says.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kagzi import Kagzi, NonRetryable, RetryPolicy, StepFailed, WorkflowContext, step_info

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


async def release_stock(reservation: str) -> None:
    say(f"undo: {reservation} released")


async def refund(payment: str) -> None:
    say(f"undo: {payment} refunded")


async def unpack(order: Order) -> None:
    say(f"undo: {order.item} unpacked")


@kagzi.workflow("fulfil-order", step_retry=RetryPolicy.exponential(0.02, maximum=5, max_attempts=3))
async def fulfil(ctx: WorkflowContext, order: Order) -> str:
    undo: list[tuple[str, Callable[..., Any], Any]] = []
    try:
        await ctx.step("validate", validate, order)
        reservation = await ctx.step("reserve-stock", reserve_stock, order)
        undo.append(("release-stock", release_stock, reservation))
        payment = await ctx.step("charge", charge, order)
        undo.append(("refund", refund, payment))
        await ctx.step("pack", pack, order)
        undo.append(("unpack", unpack, order))
        parcel = await ctx.step("ship", ship, order)
    except StepFailed as failed:
        for name, fn, argument in reversed(undo):
            await ctx.options(retry=RetryPolicy.exponential(0.1, max_attempts=None)).step(name, fn, argument)
        return f"order {order.number} was given up: {failed.error.message}"
    await ctx.gather(
        ctx.step("invoice", invoice, order, payment),
        ctx.step("send-email", send_email, order, parcel),
    )
    return f"order {order.number} is on its way as {parcel}"


async def main(trouble: str | None) -> None:
    async with kagzi, kagzi.create_worker():
        handle = await fulfil.start(Order("1001", "lamp", 4000, trouble))
        print(await handle.result(timeout=30))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if sys.argv[1:] else None))
