"""The application of the demo: a customer gets a letter, waits, and gets an e-mail.

Imported by the demo's worker processes, which find their database and their ledger through the environment.
"""

from __future__ import annotations

import os
import time

from kagzi.app.kagzi import Kagzi
from kagzi.authoring.context import WorkflowContext
from kagzi.cli.demo.stage import NAP, STAGE_VARIABLE, STEP_TAKES_S, Stage

stage = Stage.from_text(os.environ[STAGE_VARIABLE])
kagzi = Kagzi(settings=stage.settings())


@kagzi.workflow("welcome-email")
async def welcome_email(ctx: WorkflowContext, name: str) -> str:
    """Welcome a customer."""
    address = await ctx.step("find-customer", find_customer, name)
    letter = await ctx.step("write-letter", write_letter, name)
    await ctx.sleep("let-them-settle-in", NAP)
    await ctx.step("send-email", send_email, address, letter)
    return await ctx.step("tell-sales", tell_sales, name)


def find_customer(name: str) -> str:
    """Look up an address."""
    _work("find-customer")
    return f"{name.split()[0].lower()}@example.com"


def write_letter(name: str) -> str:
    """Write the text."""
    _work("write-letter")
    return f"Welcome, {name}!"


def send_email(address: str, letter: str) -> str:
    """Send it off."""
    _work("send-email")
    return f"{letter} ({address})"


def tell_sales(name: str) -> str:
    """Close the case."""
    _work("tell-sales")
    return f"{name} has been welcomed"


def _work(step: str) -> None:
    stage.ledger.enter(step, pid=os.getpid())
    time.sleep(STEP_TAKES_S)  # long enough for the reader to follow
