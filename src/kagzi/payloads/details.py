"""What a step tells of how far it is: JSON values, checked where they are told and closed where they are written."""

from __future__ import annotations

from typing import Any

from kagzi.errors import PayloadTooLarge
from kagzi.payloads.catalogue import Payloads

LIMIT = 256 * 1024
"""Bytes of UTF-8. They may be written twice a second for as long as the step goes on."""

_anything = Payloads().shape(Any)


def encode_details(details: Any, *, step: str) -> str:
    """The JSON of details. Raises PayloadError where they are no JSON values, PayloadTooLarge by their size.

    Safe from any thread and in any process: the application's codec comes later.
    """
    where = f"the heartbeat of step {step!r}"
    json, _ = _anything.write(details, where=where)
    if len(json) * 4 > LIMIT and (size := len(json.encode())) > LIMIT:
        raise PayloadTooLarge(
            f"{where}: its details take {size:,} bytes, and the limit is {LIMIT:,}. Tell where the step stands, and "
            "keep what it has made elsewhere.",
            step=where,
        )
    return json
