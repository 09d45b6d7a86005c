"""Pydantic models are stored by their own JSON, alone and inside other types."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from kagzi.errors import PayloadError
from kagzi.payloads import Payloads
from tests.payloads.samples import Address, Customer, Forgetful, Open

WHERE = "step 'charge'"
WHEN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Address, Address(Street="a\0", since=WHEN, labels={"x", "y"})),
        (Address | None, Address(Street="a")),
        (Address | None, None),
        (list[Address], [Address(Street="a"), Address(Street="b", since=WHEN)]),
        (dict[str, Address], {"home": Address(Street="a")}),
        (tuple[Address, int], (Address(Street="a"), 1)),
        (Open, Open(known=1, more=[1, {"deep": None}])),  # type: ignore[call-arg]  # extra fields are allowed
        (Customer, Customer(Address(Street="a"), [Address(Street="b")], {"c": Address(Street="c")}, None)),
    ],
    ids=lambda part: ascii(part)[:50],
)
def test_a_model_comes_back_as_it_was_p24(payloads: Payloads, annotation: Any, value: Any) -> None:
    shape = payloads.shape(annotation)

    text, settled = shape.settle(value, where=WHERE)

    assert settled == value
    assert shape.decode(text, where=WHERE) == value
    assert type(settled) is type(value)


def test_a_field_that_a_model_leaves_out_is_refused_unless_its_default_brings_it_back(payloads: Payloads) -> None:
    shape = payloads.shape(list[Forgetful])

    assert shape.settle([Forgetful(kept=1)], where=WHERE)[1] == [Forgetful(kept=1)]
    with pytest.raises(PayloadError) as refusal:
        shape.encode([Forgetful(kept=1, secret=2)], where=WHERE)

    assert refusal.value.path == "$[0].secret"


def test_what_a_model_refuses_is_refused_with_its_words(payloads: Payloads) -> None:
    address = Address(Street="a").model_copy(update={"street": 5})

    with pytest.raises(PayloadError, match="street"):
        payloads.shape(Customer).encode(Customer(address), where=WHERE)
    with pytest.raises(PayloadError, match="ValidationError"):
        payloads.shape(Address).decode("{}", where=WHERE)


def test_sets_in_models_are_sorted(payloads: Payloads) -> None:
    text = payloads.shape(Address).encode(Address(Street="a", labels=set("fedcba")), where=WHERE)

    nested = payloads.shape(list[Address]).encode([Address(Street="a", labels=set("fedcba"))], where=WHERE)

    assert '"labels":["a","b","c","d","e","f"]' in text
    assert nested == f"[{text}]"


def test_pydantic_is_never_imported_on_kagzis_account() -> None:
    code = (
        "import sys; from typing import Any; from kagzi.payloads import Payloads;"
        "Payloads().shape(Any).encode([1], where='x'); Payloads().shape(int).encode(1, where='x');"
        "sys.exit('pydantic' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == 0
