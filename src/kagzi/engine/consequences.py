"""What follows once a change is durable."""

from __future__ import annotations

import asyncio
from typing import Any

from kagzi.authoring.calls import StepCall
from kagzi.authoring.children import ChildCall
from kagzi.engine.deliveries import Delivery
from kagzi.model.message import Message
from kagzi.model.run import RunId
from kagzi.model.step import StepRecord


class Retry:
    """What a change that notes a failed execution brings: its step is to be executed again."""

    __slots__ = ("call",)

    def __init__(self, call: StepCall[Any]) -> None:
        self.call = call


class Receipt:
    """What a change that receives a message brings: its delivery, and the message, should nobody wait any more."""

    __slots__ = ("delivery", "message")

    def __init__(self, delivery: Delivery, message: Message) -> None:
        self.delivery = delivery
        self.message = message


class Order:
    """What a change that records an order to end brings: the body is cancelled. `error` is what the run is to end
    with, encoded; the order is the message at `position`."""

    __slots__ = ("error", "position")

    def __init__(self, error: str, position: int) -> None:
        self.error = error
        self.position = position


class Marked:
    """What a change brings that marks an execution: it may begin."""

    __slots__ = ("known",)

    def __init__(self, known: asyncio.Future[None]) -> None:
        self.known = known

    def tell(self) -> None:
        """The mark is durable."""
        if not self.known.done():
            self.known.set_result(None)


class Ended:
    """What a change brings that records the end of the body: its steps are undone."""

    __slots__ = ("record",)

    def __init__(self, record: StepRecord) -> None:
        self.record = record


class PutBack:
    """What a change brings that puts a message back."""

    __slots__ = ()


class Begun:
    """What a change brings that starts a child."""

    __slots__ = ("call", "run_id")

    def __init__(self, call: ChildCall[Any], run_id: RunId) -> None:
        self.call = call
        self.run_id = run_id


Consequence = Delivery | Retry | Receipt | Order | Begun | Marked | Ended | PutBack
"""What happens once a change is durable."""
