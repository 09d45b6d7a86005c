"""A run's mail: orders to end it, messages that its body waits for, and what the body makes known."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from kagzi.authoring.events import EventReceive
from kagzi.engine.body import Body
from kagzi.engine.consequences import Consequence, Order, Receipt
from kagzi.engine.nobody import NOBODY
from kagzi.engine.recording import Recorder
from kagzi.engine.timers import Timer
from kagzi.model.change import Change
from kagzi.model.claim import Claim
from kagzi.model.event import Awaiting
from kagzi.model.message import CANCEL, Message
from kagzi.model.run import MessageKind
from kagzi.rules import lifecycle


class Owner(Protocol):
    """The execution whose mail it is."""

    def submit(self, change: Change, consequence: Consequence) -> None:
        """Have a change committed."""

    def go_on(self) -> None:
        """Look what is to be done now."""


class Exchange(Protocol):
    """Where events come from."""

    def await_events(self, awaiting: Awaiting, then: Callable[[], None]) -> None:
        """Have the store know which events a run waits for, and `then` called once it does."""


class Correspondence:
    """What of the run's mailbox is on its way to the body. `is_ordering`: the body is about to be cancelled.
    `is_declaring`: the store is about to learn which events it waits for."""

    __slots__ = (
        *("_body", "_claim", "_exchange", "_grace", "_owner", "_putting_back", "_receiving", "_recorder"),
        *("is_declaring", "is_ordering"),
    )

    def __init__(
        self, owner: Owner, claim: Claim, body: Body, recorder: Recorder, exchange: Exchange, *, grace: timedelta
    ) -> None:
        self._owner = owner
        self._claim = claim
        self._exchange = exchange
        self._body = body
        self._recorder = recorder
        self._grace = grace
        self._receiving: set[tuple[MessageKind, str]] = set()
        self._putting_back = 0
        self.is_ordering = False
        self.is_declaring = False

    def let_go(self) -> None:
        """Lead back to the execution no more: it has left memory."""
        self._owner = NOBODY

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
        if self._body.mailbox or self._recorder.has_earlier:
            self._receive(only_again=only_again)
        if self._body.events_changed and not only_again:
            self.declare()

    def _receive(self, *, only_again: bool) -> None:
        body, recorder = self._body, self._recorder
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
        if not self._body.deliver(receipt.delivery, at):
            self._body.mailbox.put_back(receipt.message)
            self.put_back(receipt.message)

    def put_back(self, message: Message) -> None:
        """Have the store know that a message was received in vain and stays for the next."""
        self._putting_back += 1
        self._owner.submit(*self._recorder.putting_back(message))

    def was_put_back(self) -> None:
        """The store knows."""
        self._putting_back -= 1

    def declare(self) -> None:
        """Have the store know which events the body waits for now.

        Not while it is unsettled whether one has been received, or is there for the next wait that looks back: what is
        on its way to the store is followed by another look at what is to be done.
        """
        is_receiving = any(kind is MessageKind.EVENT for kind, _ in self._receiving)
        if self.is_declaring or is_receiving or self._putting_back:
            return
        self._body.events_changed = False
        self.is_declaring = True
        waits = tuple(each.wait for each in self._body.receives.values() if isinstance(each, EventReceive))
        awaiting = Awaiting(run_id=self._claim.run_id, fence=self._claim.fence, waits=waits)
        self._exchange.await_events(awaiting, self._declared)

    def _declared(self) -> None:
        self.is_declaring = False
        self._owner.go_on()

    def write(self, *, only_again: bool = False) -> None:
        """Make known what the body wants known; or only what earlier attempts of the run have made known, too."""
        writes = self._body.writes
        for step_id, write in list(writes.items()):
            if only_again and self._recorder.finished_earlier(step_id, write.kind) is None:
                continue
            del writes[step_id]
            self._owner.submit(*self._recorder.writing(write))
