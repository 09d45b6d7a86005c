"""Round trips of random values, and agreement of the two ways to compare."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, date, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kagzi.errors import PayloadError
from kagzi.payloads import Payloads
from kagzi.payloads.exact import same, same_json
from tests.payloads.samples import Box, Colour, Item, Order, Person, Point, Tree

WHERE = "step 'charge'"
PAYLOADS = Payloads()

texts = st.text(st.characters(codec="utf-8"))
atoms = st.none() | st.booleans() | st.integers() | st.integers(-(2**200), 2**200) | texts
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(atoms | finite, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30)
almost_json = st.recursive(
    atoms | st.floats() | st.binary(max_size=3) | st.sampled_from([Colour.RED, Item(1), 1j]),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.builds(Box, inner)
    ),
    max_leaves=10,
)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = (
    st.datetimes().map(lambda when: when.replace(fold=0))
    | st.datetimes(timezones=st.just(UTC))
    | st.datetimes(timezones=offsets)
)
typed = st.one_of(
    st.tuples(
        st.just(Order),
        st.builds(
            Order,
            st.lists(st.builds(Item, st.integers(), texts)),
            st.sets(texts),
            st.none() | moments,
            st.dictionaries(texts, json_values),
        ),
    ),
    st.tuples(
        st.just(Tree),
        st.recursive(
            st.builds(Tree, st.integers()), lambda inner: st.builds(Tree, st.integers(), st.lists(inner)), max_leaves=10
        ),
    ),
    st.tuples(st.just(dict[int, Point]), st.dictionaries(st.integers(), st.builds(Point, finite, finite))),
    st.tuples(st.just(set[frozenset[str]]), st.sets(st.frozensets(texts))),
    st.tuples(st.just(Person), st.builds(Person, texts, st.frozensets(texts))),
    st.tuples(st.just(list[Decimal]), st.lists(st.decimals())),
    st.tuples(st.just(dict[date, timedelta | None]), st.dictionaries(st.dates(), st.none() | st.timedeltas())),
    st.tuples(st.just(tuple[bytes, ...]), st.lists(st.binary()).map(tuple)),
    st.tuples(st.just(Box[list[Colour]]), st.builds(Box, st.lists(st.sampled_from(Colour)))),
)


@given(json_values)
def test_any_json_value_round_trips_exactly_p24(value: Any) -> None:
    shape = PAYLOADS.shape(Any)

    text, settled = shape.settle(value, where=WHERE)

    assert same(value, settled)
    assert same(settled, shape.decode(text, where=WHERE))
    assert repr(settled) == repr(value)
    assert json.loads(text) == value, "another JSON reader reads the same"
    assert "\0" not in text


@given(typed)
def test_any_typed_value_round_trips_exactly_p24(pair: tuple[Any, Any]) -> None:
    annotation, value = pair
    shape = PAYLOADS.shape(annotation)

    text, settled = shape.settle(value, where=WHERE)

    assert same(value, settled)
    assert same(settled, shape.decode(text, where=WHERE))
    assert shape.encode(settled, where=WHERE) == text, "equal values make equal texts"


@given(almost_json)
def test_whatever_is_given_comes_back_exactly_or_is_refused_p24(value: Any) -> None:
    try:
        text, settled = PAYLOADS.shape(Any).settle(value, where=WHERE)
    except PayloadError as error:
        refusal = error
    else:
        assert repr(settled) == repr(value)
        assert settled == PAYLOADS.shape(Any).decode(text, where=WHERE)
        assert not holds_enum(value)
        return
    assert refusal.path.startswith("$")
    assert str(refusal).startswith(f"{WHERE}: {refusal.path} ")


def holds_enum(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(holds_enum, value))
    return any(map(holds_enum, value.values())) if isinstance(value, dict) else isinstance(value, Enum)


@given(almost_json, json_values)
def test_both_ways_to_compare_agree(left: Any, right: Any) -> None:
    assert same_json(left, right, b"") == same(left, right)
    assert same_json(right, right, b"")
    assert same(right, json.loads(json.dumps(right)))


@given(texts, st.text(), json_values)
def test_any_stored_text_is_read_or_refused_p23(text: str, odd: str, value: Any) -> None:
    for stored in (text, odd, json.dumps(value), json.dumps({"items": value})):
        for shape in (PAYLOADS.shape(Order), PAYLOADS.shape(dict[str, dict[str, Item]]), PAYLOADS.shape(Any)):
            with contextlib.suppress(PayloadError):
                shape.decode(stored, where=WHERE)
