"""Values to stored text and back, exactly or not at all.

`Payloads` hands out a `Shape` for a type and a `CallShape` for a call. What a shape encodes is decoded again at
once and compared (P24): nothing is stored that a replay would see differently (P11).
"""

from __future__ import annotations

from kagzi.payloads.calls import CallShape
from kagzi.payloads.catalogue import DEFAULT_LIMIT, Payloads
from kagzi.payloads.seal import PayloadCodec, read_json
from kagzi.payloads.shape import Shape

__all__ = ["DEFAULT_LIMIT", "CallShape", "PayloadCodec", "Payloads", "Shape", "read_json"]
