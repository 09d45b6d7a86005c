"""A welcome e-mail that survives its worker, in two terminals.

    python examples/welcome_email.py worker
    python examples/welcome_email.py trigger Ada

Kill the worker while the workflow sleeps, start it again, and the e-mail goes out all the same, once. Runs are kept in
kagzi.db beside you, or where KAGZI_DATABASE_URL says. WELCOME_WAIT is the length of the sleep in seconds.
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from datetime import timedelta

from kagzi import Kagzi, WorkflowContext

kagzi = Kagzi()


@dataclass
class User:
    name: str
    email: str


@kagzi.workflow("welcome-email")
async def welcome(ctx: WorkflowContext, name: str, wait: timedelta) -> str:
    user = await ctx.step("fetch-user", fetch_user, name)
    await ctx.sleep("let-them-look-around", wait)
    return await ctx.step("send-email", send_email, user)


async def fetch_user(name: str) -> User:
    print(f"fetching {name}", flush=True)
    return User(name, f"{name.lower()}@example.com")


def send_email(user: User) -> str:
    print(f"sending an e-mail to {user.email}", flush=True)
    return f"{user.name} was welcomed at {user.email}"


async def work() -> None:
    print("The worker takes runs; Ctrl-C stops it.", flush=True)
    await kagzi.create_worker().start()


async def trigger(name: str) -> None:
    wait = timedelta(seconds=float(os.environ.get("WELCOME_WAIT", "10")))
    async with kagzi:
        handle = await welcome.start(name, wait)
        print(f"started run {handle.run_id}; it sleeps for {wait.total_seconds():g} s", flush=True)
        print(await handle.result())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker"]:
            asyncio.run(work())
        case ["trigger", name]:
            asyncio.run(trigger(name))
        case _:
            sys.exit("usage: python welcome_email.py worker | trigger NAME")
