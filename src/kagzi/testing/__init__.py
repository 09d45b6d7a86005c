"""Testing workflows: virtual time, stand-ins for steps, and a crash at every write.

    async with Environment(kagzi) as env:
        env.mock("send-email", lambda profile: "sent")
        handle = await welcome.start("42")
        await env.advance(timedelta(days=30))
        assert await handle.result() == "completed"
        await env.crash_everywhere(welcome, "42")

Needs no plugin of any test runner.
"""

from kagzi.testing.crashes import CrashReport
from kagzi.testing.environment import Environment
from kagzi.testing.mocks import Mock
from kagzi.testing.replaying import replay
from kagzi.testing.stage import NotQuiet

__all__ = ["CrashReport", "Environment", "Mock", "NotQuiet", "replay"]
