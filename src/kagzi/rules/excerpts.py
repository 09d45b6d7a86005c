"""What an exception says, as text and JSON values of a bounded size. Sizes are bytes of JSON.

Whatever an exception does when it is asked, there is an answer: a run must not hang because its error can't be told.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from itertools import takewhile
from types import TracebackType
from typing import Any

import msgspec

from kagzi.rules.classification.probes import guarded, is_a, module_of, name_of, read, text

_FIRST_FRAMES = 10
_LAST_FRAMES = 50
_MOST_NOTES = 20
_NOTE_LIMIT = 1_000
_LAST_LINE_LIMIT = 2_000
_NAME_LIMIT = 255
_WORST_CHARACTER = 6  # \u0001

_DEEPEST = 8
_TEXT_LIMIT = 4_000
_SMALLEST_INT, _LARGEST_INT = -(2**63), 2**64 - 1  # beyond, the encoder refuses

_traceback_of = BaseException.__dict__["__traceback__"].__get__
_encoder = msgspec.json.Encoder()


def type_of(error: BaseException) -> str:
    """The name of its class."""
    return shortened(name_of(error), limit=_NAME_LIMIT)


def message_of(error: BaseException, *, limit: int) -> str:
    """What `str` gives."""
    return shortened(_spoken(error, str, "its message can't be told: __str__"), limit=limit)


def traceback_of(error: BaseException, *, limit: int) -> str:
    """The frames it came through, its last line and its notes, as Python would print them without what led to it.

    Where it is too long, what is in the middle is left out. One that was raised in another process brings its own.
    """
    brought = text(read(error, "__kagzi_traceback__"))
    if brought is not None:
        return shortened(brought, limit=limit, keep_end=True)
    trace: TracebackType | None = _traceback_of(error)
    heading = "Traceback (most recent call last):\n" if trace is not None else ""
    frames = guarded(_frames, trace)
    if frames is None:
        frames = "  the frames can't be told: formatting them failed\n"
    module = module_of(type(error))
    name = (
        type_of(error)
        if module in ("builtins", "__main__", "")
        else f"{shortened(module, limit=_NAME_LIMIT)}.{type_of(error)}"
    )
    ending = f"{name}: {message_of(error, limit=_LAST_LINE_LIMIT)}\n" + "".join(_notes(error))
    return shortened(heading + frames, limit=limit - size(ending), keep_end=True) + ending


def context_of(error: BaseException, *, limit: int) -> dict[str, Any]:
    """The `context` that its raiser gave it, as JSON values; what is none is shown by its `repr`."""
    context = guarded(_plain, read(error, "context"), _Room(limit), _DEEPEST)
    return context if isinstance(context, dict) else {}


def shortened(text: str, *, limit: int, keep_end: bool = False) -> str:
    """Text cut to `limit` bytes of JSON, without what no store keeps (lone surrogates).

    With `keep_end` the cut is a quarter from the beginning, otherwise at the end.
    """
    length = min(len(text), max(limit, 0))  # a character takes a byte at least
    while True:
        cut = _storable(text if length == len(text) else _cut(text, length, keep_end=keep_end))
        if length == 0 or len(cut) * _WORST_CHARACTER <= limit or (taken := size(cut)) <= limit:
            return cut
        length = min(length * limit // taken, length - 1)


def _cut(text: str, length: int, *, keep_end: bool) -> str:
    if not keep_end:
        return text[:length] + "..."
    head = length // 4
    return text[:head] + "\n...\n" + text[len(text) - (length - head) :]


def _storable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def size(thing: Any) -> int:
    """How many bytes of JSON it takes."""
    return len(_encoder.encode(thing))


def _spoken(thing: object, ask: Any, excuse: str) -> str:
    """What `str` or `repr` gives, as a plain str."""
    try:
        return text(ask(thing)) or ""
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        return f"{excuse} raised {name_of(failure)}"


def _frames(trace: TracebackType | None) -> str:
    count, each = 0, trace
    while each is not None:
        count, each = count + 1, each.tb_next
    if count <= _FIRST_FRAMES + _LAST_FRAMES:
        return "".join(traceback.format_tb(trace))
    first = traceback.format_tb(trace, limit=_FIRST_FRAMES)
    last = traceback.format_tb(trace, limit=-_LAST_FRAMES)
    left_out = count - _FIRST_FRAMES - _LAST_FRAMES
    return "".join([*first, f"  ... {left_out} more frames ...\n", *last])


def _notes(error: BaseException) -> list[str]:
    notes = read(error, "__notes__")
    if not is_a(notes, list):
        return []
    first = list.__getitem__(notes, slice(_MOST_NOTES))
    return [shortened(_spoken(note, str, "a note: __str__"), limit=_NOTE_LIMIT) + "\n" for note in first]


@dataclass(slots=True)
class _Room:
    """How many bytes may still be added."""

    left: int

    def take(self, value: Any) -> Any:
        """Count a value in."""
        self.left -= size(value) + 1  # and what parts it from the next
        return value

    def take_text(self, text: str) -> str:
        """Count a text in, cut to what there is room for."""
        cut: str = self.take(shortened(text, limit=min(_TEXT_LIMIT, max(self.left, 0))))
        return cut


def _plain(value: Any, room: _Room, levels: int) -> Any:
    """A value as JSON has it, and as it comes back from there."""
    if value is None or type(value) is bool:
        return room.take(value)
    if is_a(value, str):
        return room.take_text(text(value) or "")
    if type(value) is int and _SMALLEST_INT <= value <= _LARGEST_INT:
        return room.take(value)
    if type(value) is float and value - value == 0:  # neither NaN nor infinite
        return room.take(value)
    if is_a(value, dict) and levels:
        room.take({})
        entries = takewhile(lambda _: room.left > 0, dict.items(value))
        return {_key(key, room): _plain(entry, room, levels - 1) for key, entry in entries}
    if (is_a(value, list) or is_a(value, tuple)) and levels:
        room.take([])
        return [_plain(entry, room, levels - 1) for entry in takewhile(lambda _: room.left > 0, value)]
    return room.take_text(_spoken(value, repr, "a value that can't be shown: __repr__"))


def _key(key: object, room: _Room) -> str:
    return room.take_text(text(key) or "" if is_a(key, str) else _spoken(key, repr, "a key: __repr__"))
