"""One type's way to stored text and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from kagzi.payloads.exact import same, same_json
from kagzi.payloads.fault import Role
from kagzi.payloads.models import from_json, model_reader, to_json
from kagzi.payloads.order import in_order
from kagzi.payloads.plan import TypePlan
from kagzi.payloads.refusal import refuse_unreadable, refuse_value
from kagzi.payloads.seal import Seal

T = TypeVar("T")


class Shape(Generic[T]):
    """How values of one type are stored. `where` in its methods names whose value it is: "step 'charge'"."""

    __slots__ = ("_atoms", "_decode", "_plain", "_plan", "_role", "_seal")

    def __init__(self, plan: TypePlan, *, role: Role, seal: Seal) -> None:
        self._plan = plan
        self._role = role
        self._seal = seal
        self._atoms = plan.atoms
        self._plain = plan.annotation is Any
        self._decode: Callable[[str | bytes], Any]
        if plan.is_model:
            self._decode = model_reader(plan.annotation)
        else:
            self._decode = msgspec.json.Decoder(plan.annotation, dec_hook=from_json).decode

    def encode(self, value: T, *, where: str) -> str:
        """The text to store. Raises PayloadError if it would not come back the same, PayloadTooLarge by its size."""
        return self.settle(value, where=where)[0]

    def decode(self, text: str, *, where: str) -> T:
        """The value of a stored text. Raises PayloadError if it doesn't fit the type."""
        return self.read(self._seal.open(text, where), where=where)

    def settle(self, value: T, *, where: str) -> tuple[str, T]:
        """The text to store and the value as every replay will see it (P11). Raises as `encode` does."""
        json, settled = self.write(value, where=where)
        return self._seal.close(json, where), settled

    def write(self, value: T, *, where: str, path: str = "$") -> tuple[str, T]:
        """The JSON of `value` and what is read back from it, before codec and limit; `path` is where it stands."""
        try:
            if type(value) in self._atoms:
                json = _encode(value).decode()
                if json != "null" or value is None:  # the JSON of NaN and of infinity is null
                    return json, value
                back: Any = None
            else:
                data = _encode(in_order(value) if self._plan.has_sets else value)
                back = self._decode(data)
                if same_json(value, back, data) if self._plain else same(value, back):
                    return data.decode(), back
        except Exception as error:
            raise refuse_value(value, error, self._decode, self._role, where=where, path=path) from error
        raise refuse_value(value, back, self._decode, self._role, where=where, path=path)

    def read(self, json: str | bytes, *, where: str, path: str = "$") -> T:
        """The value of a JSON text that the codec has decoded already."""
        try:
            value: T = self._decode(json)
        except Exception as error:
            raise refuse_unreadable(json, error, self._decode, where=where, path=path) from error
        return value


_encode = msgspec.json.Encoder(enc_hook=to_json).encode
