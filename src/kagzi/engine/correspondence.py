"""A run's mail: orders to end it, messages that its body waits for, and what the body makes known."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from kagzi.engine.body import Body
from kagzi.engine.recording import Consequence, Order, Receipt, Recorder
from kagzi.engine.timers import Timer
from kagzi.model.change import Change
from kagzi.model.message import CANCEL, Message
from kagzi.model.run import MessageKind
from kagzi.rules import lifecycle


class Owner(Protocol):
    """The execution whose mail it is."""

    def submit(self, change: Change, consequence: Consequence) -> None:
        """Have a change committed."""


class Correspondence:
    """What of the run's mailbox is on its way to the body. `is_ordering`: the body is about to be cancelled."""

    __slots__ = ("_body", "_grace", "_owner", "_receiving", "_recorder", "is_ordering")

    def __init__(self, owner: Owner, body: Body, recorder: Recorder, *, grace: timedelta) -> None:
        self._owner = owner
        self._body = body
        self._recorder = recorder
        self._grace = grace
        self._receiving: set[tuple[MessageKind, str]] = set()
        self.is_ordering = False

    def receive_order(self) -> bool:
        """Record that the body is to be cancelled, where somebody ordered it; whether that is under way."""
        order = self._body.mailbox.take(MessageKind.CANCEL, CANCEL)
        if order is not None and self._body.order is None and not self.is_ordering:
            self.is_ordering = True
            self._owner.submit(*self._recorder.cancelling(order))
        return self.is_ordering

    def ordered(self, order: Order, at: datetime) -> None:
        """The order is durable: the body is cancelled, and has its grace from then on."""
        self.is_ordering = False
        self._body.cancel(order.error, at)
        if self._body.order is not None:
            self.limit_grace()

    def limit_grace(self) -> None:
        """From the record on, whoever executes the run then, it has so long to clean up."""
        until = self._body.ordered_at + self._grace
        what = f"the end of its cancellation, by {until.isoformat()} at the latest"
        self._body.timers.add(Timer(lifecycle.CANCELLATION, until, None, what=what))

    def receive(self, *, only_again: bool = False) -> None:
        """Give messages to those who wait for them, first come first served; or only those that earlier attempts of the
        run have received.

        Of each name one at a time: where it is received in vain, it must still come before the next.
        """
        body, recorder = self._body, self._recorder
        if not body.mailbox and not recorder.has_earlier:
            return
        for step_id, receive in list(body.receives.items()):
            if (receive.kind, receive.name) in self._receiving:
                continue
            earlier = recorder.received_earlier(receive, body.mailbox) if recorder.has_earlier else None
            if earlier is not None:
                change, receipt = recorder.received_again(receive, earlier)
            elif only_again:
                continue
            elif (message := body.mailbox.take(receive.kind, receive.name)) is not None:
                change, receipt = recorder.receipt(receive, message)
            else:
                continue
            del body.receives[step_id]
            self._receiving.add((receive.kind, receive.name))
            self._owner.submit(change, receipt)

    def received(self, receipt: Receipt, at: datetime) -> None:
        """A receipt is durable: the message is delivered, or put back where nobody waits for it any more."""
        self._receiving.discard((receipt.message.kind, receipt.message.name))
        if not self._body.deliver(receipt, at):
            self._body.mailbox.put_back(receipt.message)
            self.put_back(receipt.message)

    def put_back(self, message: Message) -> None:
        """Have the store know that a message was received in vain and stays for the next."""
        self._owner.submit(*self._recorder.putting_back(message))

    def write(self, *, only_again: bool = False) -> None:
        """Make known what the body wants known; or only what earlier attempts of the run have made known, too."""
        writes = self._body.writes
        for step_id, write in list(writes.items()):
            if only_again and self._recorder.finished_earlier(step_id, write.kind) is None:
                continue
            del writes[step_id]
            self._owner.submit(*self._recorder.writing(write))
