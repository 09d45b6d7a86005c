"""The application's codec stands between JSON and the stored text."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from kagzi.errors import PayloadError, PayloadTooLarge
from kagzi.payloads import PayloadCodec, Payloads
from tests.payloads.samples import Item

WHERE = "step 'charge'"


class Base64:
    def encode(self, text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    def decode(self, text: str) -> str:
        return base64.b64decode(text, validate=True).decode()


class Answering:
    """Encodes everything to one text."""

    def __init__(self, text: Any) -> None:
        self.text = text
        self.kept = ""

    def encode(self, text: str) -> str:
        self.kept = text
        return self.text  # type: ignore[no-any-return]  # wrong types are what is tested

    def decode(self, text: str) -> str:
        return self.kept


class Lossy(Base64):
    def decode(self, text: str) -> str:
        return super().decode(text).lower()


def test_what_is_stored_went_through_the_codec_and_comes_back() -> None:
    payloads = Payloads(codec=Base64())
    shape = payloads.shape(list[Item])
    call = payloads.untyped_call()

    text, settled = shape.settle([Item(2**70, "\0")], where=WHERE)
    called = call.encode((1,), {}, where=WHERE)

    assert base64.b64decode(text) == b'[{"price":1180591620717411303424,"name":"\\u0000"}]'
    assert shape.decode(text, where=WHERE) == settled == [Item(2**70, "\0")]
    assert payloads.show(text) == [{"price": 2**70, "name": "\0"}]
    assert call.decode(called, where=WHERE) == ((1,), {})
    assert payloads.shape(str).decode(payloads.shape(str).encode("atom", where=WHERE), where=WHERE) == "atom"


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        (Answering("a\0b"), "NUL"),
        (Answering("\ud800"), "can't encode it: UnicodeEncodeError"),
        (Answering(b"bytes"), "can't encode it"),
        (Answering(None), "can't encode it"),
        (Lossy(), "does not give back"),
    ],
)
def test_a_codec_that_would_lose_a_payload_is_refused_at_the_call_p24(codec: PayloadCodec, text: str) -> None:
    with pytest.raises(PayloadError, match=text) as refusal:
        Payloads(codec=codec).shape(str).encode("ABC", where=WHERE)

    assert refusal.value.step == WHERE


def test_text_that_the_codec_cannot_read_is_an_error_of_its_own_p23() -> None:
    payloads = Payloads(codec=Base64())

    with pytest.raises(PayloadError, match=r"step 'charge': Base64 can't decode the stored text"):
        payloads.shape(int).decode("!", where=WHERE)
    with pytest.raises(PayloadError):
        payloads.show("!")
    with pytest.raises(PayloadError):
        payloads.untyped_call().decode("!", where=WHERE)


def test_the_limit_counts_what_is_stored() -> None:
    shape = Payloads(codec=Base64(), limit=100).shape(str)

    assert len(shape.encode("x" * 73, where=WHERE)) == 100
    with pytest.raises(PayloadTooLarge):
        shape.encode("x" * 74, where=WHERE)
