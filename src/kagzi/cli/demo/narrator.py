"""The voice of the demo: lines for people, or one JSON object per line for programs."""

from __future__ import annotations

from typing import Any

import click

from kagzi.cli.demo.stage import STEPS, Verdict
from kagzi.cli.output import echo_json
from kagzi.clock import monotonic

_TAGS = {"kill": "kill -9"}
_COLOURS = {"kill": "red", "takeover": "yellow", "step": "green", "result": "green", "failed": "red"}
_TAG_WIDTH = 10
_INDENT = " " * (8 + 2 + _TAG_WIDTH)


class Narrator:
    """Tells what happens with the seconds since it began."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._began = monotonic()

    def open(self, *, place: str) -> None:
        """Say what is going to be seen."""
        if not self._as_json:
            click.echo(f"A welcome e-mail, on {place}. Its worker will be killed half way.\n")

    def tell(self, event: str, text: str, /, **facts: Any) -> None:
        """Say what has just happened; `facts` are for programs."""
        seconds = monotonic() - self._began
        if self._as_json:
            echo_json({"event": event, "seconds": round(seconds, 3), **facts})
            return
        tag = click.style(_TAGS.get(event, event).ljust(_TAG_WIDTH), fg=_COLOURS.get(event), bold=event in _COLOURS)
        click.echo(f"{seconds:6.1f} s  {tag}{text.replace(chr(10), chr(10) + _INDENT)}")

    def close(self, verdict: Verdict, *, survived: bool) -> None:
        """Say what the ledger says."""
        if self._as_json:
            echo_json({"event": "verdict", "executions": verdict.executions, "exactly_once": verdict.holds})
            return
        click.echo("\nThe ledger, a file to which every execution of a step adds a line:")
        for step in STEPS:
            pids = verdict.executions[step]
            times = "once" if len(pids) == 1 else f"{len(pids)} times"
            click.echo(f"  {step:<14}{times:<9}process {', '.join(map(str, pids)) or '-'}")
        click.echo()
        if verdict.holds and survived:
            click.secho("Every step was executed exactly once, and the worker's death changed nothing.", fg="green")
        elif not survived:
            click.secho("The run ended without its worker being killed: nothing was shown.", fg="red")
        else:
            click.secho("That is not what Kagzi promises. Please report it.", fg="red")
