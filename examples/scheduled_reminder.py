"""Reminders at their time: a run that is started for later, and one that sleeps until a moment.

    python examples/scheduled_reminder.py

Stop it and start it again as often as you like: a reminder that was due meanwhile comes at once, and none comes twice.
REMINDER_WAIT is the time until the first in seconds. Runs are kept in kagzi.db beside you, or where KAGZI_DATABASE_URL
says.
"""

import asyncio
import os
from datetime import datetime, timedelta

from kagzi import Kagzi, WorkflowContext

kagzi = Kagzi()


@kagzi.workflow("remind-of-event")
async def remind(ctx: WorkflowContext, event: str, begins: datetime, before: list[timedelta]) -> int:
    for span in sorted(before, reverse=True):
        await ctx.sleep_until("until-reminder", begins - span)
        await ctx.step("remind", tell, f"{event} begins in {span.total_seconds():g} s")
    await ctx.sleep_until("until-begin", begins)
    await ctx.step("remind", tell, f"{event} begins now")
    return len(before) + 1


async def tell(text: str) -> None:
    print(text, flush=True)  # here: an e-mail, a message


async def main() -> None:
    wait = timedelta(seconds=float(os.environ.get("REMINDER_WAIT", "1")))
    begins = datetime.now().astimezone() + 2 * wait
    async with kagzi, kagzi.create_worker():
        later = await remind.options(delay=wait / 2).start("the walk", begins, [])
        talk = await remind.start("the talk", begins, [wait, wait / 2])
        told = await talk.result(timeout=60) + await later.result(timeout=60)
        print(f"{told} reminders")


if __name__ == "__main__":
    asyncio.run(main())
