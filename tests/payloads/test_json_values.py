"""Values without a type: JSON's own come back exactly, anything else is refused at the call (P24)."""

from __future__ import annotations

import math
from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from kagzi.errors import PayloadError, PayloadTooLarge
from kagzi.payloads import Payloads, read_json
from tests.payloads.samples import Address, Colour, Connection, Item, Level, Name, Pair, Person

WHERE = "step 'charge'"


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**63),
        2**64,
        2**70,
        -(10**400),
        0.1,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        1e22,
        "",
        "a\0b",
        "\0",
        "e\u0301 \u200d \U0001f469\u200d\U0001f4bb \U0010ffff \ufeff \u2028",
        "null",
        {"": {"\0": [2**70, {}]}},
        {"z": 1, "a": 2},
        {"z": 1, "a": 1.0, "b": True},
        [[], {}, [None]],
        nested(500),
        {"[[[": "]}" * 600, "deep": nested(3)},
        [{"id": index, "tags": ["[", "{"]} for index in range(600)],
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_json_value_comes_back_exactly_under_any_p24(payloads: Payloads, value: Any) -> None:
    shape = payloads.shape(Any)

    text, settled = shape.settle(value, where=WHERE)
    decoded = shape.decode(text, where=WHERE)

    for back in (settled, decoded):
        assert back == value
        assert repr(back) == repr(value), "types, signs of zero and the order of keys are part of the value"


def test_what_the_first_execution_sees_is_what_a_replay_sees_p11(payloads: Payloads) -> None:
    value = {"items": [1, 2]}
    shape = payloads.shape(Any)

    text, settled = shape.settle(value, where=WHERE)
    value["items"].append(3)

    assert settled == shape.decode(text, where=WHERE) == {"items": [1, 2]}


def test_deep_and_wide_values_come_back_whatever_the_stack_p24(payloads: Payloads) -> None:
    value = [nested(499), [[] for _ in range(1000)], "]" * 1000]

    assert payloads.shape(Any).settle(value, where=WHERE)[1] == value
    assert payloads.shape(list[Any]).settle(value, where=WHERE)[1] == value
    for shape in (payloads.shape(Any), payloads.shape(list[Any])):
        with pytest.raises(PayloadError, match="nests more than 500 levels"):
            shape.encode([nested(500), *value], where=WHERE)


def cycle() -> Any:
    inner: dict[str, Any] = {}
    inner["me"] = [inner]
    return {"a": inner}


REFUSED: list[tuple[Any, str, str]] = [
    (math.nan, "$", "is nan"),
    ({"a": [1.0, math.nan]}, "$.a[1]", "is nan"),
    ([math.inf], "$[0]", "is inf"),
    ([-math.inf], "$[0]", "is -inf"),
    ("\ud800", "$", "lone surrogate"),
    ({"a b": ["x\udfff"]}, "$['a b'][0]", "lone surrogate"),
    ({"\ud800": 1}, r"$['\ud800']", "lone surrogate"),
    (cycle(), "$.a.me[0]", "contains itself"),
    (nested(501), "$", "nests more than 500 levels"),
    (nested(900), "$", "nests more than 500 levels"),
    (nested(200_000), "$", "nests more than 500 levels"),
    (10**5000, "$", "4300 digits"),
    ({10**5000: 1}, "$", "has the key <int>, an int"),
    ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, "$.when", "is a datetime, but nothing says what to read it back as"),
    ([1, (2, 3)], "$[1]", "is a tuple (JSON has lists only)"),
    ({"pair": Pair(1)}, "$.pair", "is a Pair"),
    ({"ids": {1, 2}}, "$.ids", "is a set"),
    ([frozenset({1})], "$[0]", "is a frozenset"),
    (b"raw", "$", "is a bytes"),
    ([bytearray(b"raw")], "$[0]", "is a bytearray"),
    (Decimal("1.0"), "$", "is a Decimal"),
    (UUID(int=1), "$", "is a UUID"),
    ({"item": Item(1)}, "$.item", "is an Item"),
    (Person("a"), "$", "is a Person"),
    ({"to": Address(Street="s")}, "$.to", "is an Address"),
    (Colour.RED, "$", "is a Colour"),
    ([Level.LOW], "$[0]", "is a Level"),
    ([Name("n")], "$[0]", "is a Name, a kind of str"),
    ({Name("n"): 1}, "$", "has the key 'n', a Name"),
    (OrderedDict(a=1), "$", "is an OrderedDict"),
    ({1: "one"}, "$", "has the key 1, an int"),
    ({"a": {(1, 2): 3}}, "$.a", "has the key (1, 2), a tuple"),
    ({None: 1}, "$", "has the key None"),
    ({"1": 1, 1: 1}, "$", "has the key 1, an int"),
    ([1j], "$[0]", "is a complex, which can't be stored"),
    ({"c": Connection()}, "$.c", "is a Connection, which can't be stored"),
    ([print], "$[0]", "is a builtin_function_or_method, which can't be stored"),
]


@pytest.mark.parametrize(("value", "path", "text"), REFUSED, ids=[f"{path} {text}" for _, path, text in REFUSED])
def test_what_would_not_come_back_is_refused_naming_step_and_path_p24(
    payloads: Payloads, value: Any, path: str, text: str
) -> None:
    with pytest.raises(PayloadError) as refusal:
        payloads.shape(Any).encode(value, where=WHERE)

    assert refusal.value.path == path
    assert refusal.value.step == WHERE
    assert str(refusal.value).startswith(f"{WHERE}: {path} ")
    assert text in str(refusal.value)
    str(refusal.value).encode()


def test_one_list_in_two_places_is_no_cycle(payloads: Payloads) -> None:
    shared = ["x"]

    settled = payloads.shape(Any).settle({"a": shared, "b": [shared, shared]}, where=WHERE)[1]

    assert settled == {"a": ["x"], "b": [["x"], ["x"]]}


def test_a_bare_member_of_a_typed_value_takes_json_values_only(payloads: Payloads) -> None:
    shape = payloads.shape(dict[str, list[object]])

    assert shape.settle({"a": [1, "x", None]}, where=WHERE)[1] == {"a": [1, "x", None]}
    with pytest.raises(PayloadError) as refusal:
        shape.encode({"a": [1, (2,)]}, where=WHERE)

    assert refusal.value.path == "$.a[1]"


@pytest.mark.parametrize(
    "text", ["", "[", "nul", "{'a': 1}", "[1] 2", "[" * 100_000, "1" * 5000, '"\ud800"'], ids=ascii
)
def test_unreadable_text_is_an_error_of_its_own_p23(payloads: Payloads, text: str) -> None:
    for read in (payloads.show, read_json, lambda text: payloads.shape(Any).decode(text, where=WHERE)):
        with pytest.raises(PayloadError):
            read(text)


def test_show_gives_plain_values_for_people(payloads: Payloads) -> None:
    text = payloads.shape(Item).encode(Item(2**70, "x"), where=WHERE)

    assert payloads.show(text) == {"price": 2**70, "name": "x"}
    assert payloads.show(None) is None


def test_a_value_over_the_limit_is_refused_with_size_and_cure_p24() -> None:
    shape = Payloads(limit=100).shape(Any)

    assert shape.encode("é" * 49, where=WHERE)
    with pytest.raises(
        PayloadTooLarge, match=r"step 'charge': it takes 102 bytes .* limit is 100\. Store it elsewhere"
    ):
        shape.encode("é" * 50, where=WHERE)


def test_the_limit_is_four_mebibytes_unless_set(payloads: Payloads) -> None:
    shape = payloads.shape(str)

    assert shape.encode("x" * (4 * 1024 * 1024 - 2), where=WHERE)
    with pytest.raises(PayloadTooLarge):
        shape.encode("x" * (4 * 1024 * 1024 - 1), where=WHERE)
