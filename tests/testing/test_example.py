"""The example of the documentation, as users write it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from kagzi import Kagzi, WorkflowContext
from kagzi.testing import Environment


@dataclass(frozen=True)
class User:
    id: str


@dataclass(frozen=True)
class Profile:
    address: str


async def fetch_user(user_id: str) -> Profile:
    return Profile(f"{user_id}@example.org")


def send_email(profile: Profile) -> str:
    raise AssertionError("no test sends an email")


async def test_the_example_of_the_documentation_runs(kagzi: Kagzi) -> None:
    @kagzi.workflow("welcome-email", version=2)
    async def welcome(ctx: WorkflowContext, user: User) -> str:
        profile = await ctx.step("fetch-user", fetch_user, user.id)
        await ctx.sleep("wait", timedelta(hours=1))
        await ctx.step("send-email", send_email, profile)
        return "completed"

    async with Environment(kagzi) as env:
        env.mock("send-email", lambda profile: "sent")
        handle = await welcome.start(User("42"))
        await env.advance(timedelta(days=30))
        assert await handle.result() == "completed"
        await env.crash_everywhere(welcome, User("42"))
