"""How many rows travel in one parameter.

The driver takes 1.1 µs of Python's time for each element of an array parameter, None included: 100 records of ten
columns cost it 0.4 ms. So rows travel as JSON text, made in C from the structs themselves (0.06 ms), and the server
takes them apart with json_to_recordset (0.13 ms more than with arrays, but in another process). Fields that have their
defaults are left out, and the statements put them back. JSON strings hold every text that a text column can.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()


def rows_json(rows: Sequence[msgspec.Struct]) -> str:
    """Rows for json_to_recordset."""
    return _encoder.encode(rows).decode()


def array_text(values: Iterable[Any]) -> str:
    """The text form of an array of numbers or ids, which need no quoting; the statement says `$1::text::integer[]`."""
    return "{" + ",".join(map(str, values)) + "}"
