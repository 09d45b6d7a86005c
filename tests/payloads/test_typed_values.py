"""Typed values come back equal and of the same type, or are refused at the call (P24)."""

from __future__ import annotations

import collections.abc as abc
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest

from kagzi.errors import PayloadError
from kagzi.payloads import Payloads
from kagzi.payloads.exact import same
from tests.payloads.samples import (
    Box,
    Cat,
    Colour,
    Derived,
    Dog,
    Flags,
    Gift,
    Greedy,
    Incomparable,
    Item,
    Level,
    Locked,
    Moody,
    Name,
    Options,
    Order,
    Pair,
    Person,
    Point,
    Size,
    Tree,
)

WHERE = "step 'charge'"
WRONG: Any = "x"  # where an int belongs
UserId = NewType("UserId", int)
INDIA = timezone(timedelta(hours=5, minutes=30))


def changed_derived() -> Derived:
    derived = Derived(1)
    derived.total = 2
    return derived


KEPT: list[tuple[Any, Any]] = [
    (None, None),
    (type(None), None),
    (bool, True),
    (int, 2**70),
    (int | None, None),
    (Optional[str], "a\0"),  # noqa: UP045 - the old spelling too
    (float, -0.0),
    (int | float, 3),
    (int | float, 3.0),
    (int | str | None, "3"),
    (str, "\U0001f600"),
    (bytes, b"\0\xff"),
    (bytearray, bytearray(b"\0\xff")),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
    (datetime, datetime(2026, 1, 2, tzinfo=INDIA)),
    (datetime, datetime(2026, 1, 2)),  # noqa: DTZ001 - naive ones come back naive
    (datetime, datetime.max.replace(tzinfo=UTC)),
    (date, date.min),
    (time, time(1, 2, 3, 4)),
    (time, time(1, 2, tzinfo=INDIA)),
    (timedelta, timedelta(microseconds=-1)),
    (timedelta, timedelta.max),
    (timedelta, timedelta.min),
    (UUID, UUID(int=2**127)),
    (Decimal, Decimal("1.00")),
    (Decimal, Decimal("-1E+400")),
    (Decimal, Decimal("NaN")),
    (Colour, Colour.BLUE),
    (Level, Level.HIGH),
    (Flags, Flags.A | Flags.B),
    (Size, "m"),
    (Literal[1, 2], 2),
    (Annotated[int, "any note"], 2**65),
    (Annotated[list[int], ["unhashable"]], [1]),
    (Annotated[int, msgspec.Meta(ge=1)], 1),
    (UserId, 7),
    (list, [1, "a", None]),
    (dict, {"a": [1]}),
    (list[Item], [Item(1), Item(2**70, "x")]),
    (tuple[int, str], (1, "a")),
    (tuple[Item, ...], (Item(1), Item(2))),
    (tuple[()], ()),
    (set[int], {3, 1, 2}),
    (frozenset[Colour], frozenset(Colour)),
    (set[frozenset[Point]], {frozenset({Point(1.0, 2.0)}), frozenset()}),
    (dict[int, str], {2**70: "a", -1: "b"}),
    (dict[UUID, int], {UUID(int=1): 1}),
    (dict[Colour, Level], {Colour.RED: Level.LOW}),
    (dict[date, Decimal], {date(2026, 1, 1): Decimal(1)}),
    (abc.Sequence[int], [1, 2]),
    (abc.Mapping[str, Item], {"a": Item(1)}),
    (Item, Item(2**70, "x")),
    (Item | None, None),
    (Item | str, "none"),
    (Order, Order([Item(1)], {"b", "a"}, datetime(2026, 1, 1, tzinfo=UTC), {"z": [1], "a": None})),
    (Point, Point(1.5, -0.0)),
    (Incomparable, Incomparable([Point(0.0, 1.0)])),
    (Box[int], Box(1)),
    (Box[list[Point]], Box([Point(1.0, 2.0)])),
    (Tree, Tree(1, [Tree(2, [Tree(3)])])),
    (Derived, Derived(3)),
    (Derived, changed_derived()),
    (Person, Person("a", frozenset({"b", "c"}))),
    (Cat | Dog, Dog(4)),
    (list[Cat | Dog], [Cat(9), Dog(4)]),
    (Pair, Pair(1, "b")),
    (Options, {"depth": 1}),
    (Options, {"depth": 1, "label": "x"}),
]


@pytest.mark.parametrize(
    ("annotation", "value"), KEPT, ids=[f"{place}-{type(value).__name__}" for place, (_, value) in enumerate(KEPT)]
)
def test_a_typed_value_comes_back_as_it_was_p24(payloads: Payloads, annotation: Any, value: Any) -> None:
    shape = payloads.shape(annotation)

    text, settled = shape.settle(value, where=WHERE)
    decoded = shape.decode(text, where=WHERE)

    assert same(value, settled)
    assert same(value, decoded)
    assert type(decoded) is type(value)
    if not isinstance(value, Incomparable) and value == value:
        assert decoded == value


BERLIN = ZoneInfo("Europe/Berlin")

REFUSED: list[tuple[Any, Any, str, str]] = [
    (str, 1, "$", "expected `str`, got `int`"),
    (int, True, "$", "expected `int`, got `bool`"),
    (int, 1.0, "$", "expected `int`, got `float`"),
    (int, "1", "$", "expected `int`, got `str`"),
    (float, True, "$", "expected `float`, got `bool`"),
    (float, float("nan"), "$", "is nan"),
    (float, 2**53 + 1, "$", "is an int and would come back as a float"),
    (None, 3, "$", "is an int, but its annotation is None"),
    (type(None), "x", "$", "is a str, but its annotation is None"),
    (str, Colour.RED, "$", "is a Colour and would come back as a str"),
    (int, Level.LOW, "$", "is a Level and would come back as an int"),
    (str, Name("n"), "$", "is a Name, a kind of str"),
    (str, datetime(2026, 1, 1, tzinfo=UTC), "$", "is a datetime and would come back as a str"),
    (bytes, bytearray(b"x"), "$", "is a bytearray and would come back as a bytes"),
    (list[int], (1, 2), "$", "is a tuple and would come back as a list"),
    (abc.Sequence[int], (1, 2), "$", "is a tuple and would come back as a list"),
    (tuple[int, ...], [1], "$", "is a list and would come back as a tuple"),
    (tuple[int, int], Pair(1), "$[1]", "expected `int`, got `str`"),
    (set[float], {1.0, float("nan")}, "$[...]", "is nan"),
    (list[set[str]], [frozenset({"a"})], "$[0]", "is a frozenset and would come back as a set"),
    (dict[str, int], {1: 1}, "$", "has the key 1, an int"),
    (dict[float, int], {float("nan"): 1}, "$", "has the key nan"),
    (dict[str, dict[str, Item]], {"k": {"a b": Item(WRONG)}}, "$.k['a b'].price", "expected `int`"),
    (Order, Order([Item(1), Item(WRONG)]), "$.items[1].price", "expected `int`, got `str`"),
    (Order, Order([], notes={"x": (1,)}), "$.notes.x", "is a tuple"),
    (Order, Order([Gift(1)]), "$.items[0]", "is a Gift and would come back as an Item"),
    (Item, {"price": 1, "name": ""}, "$", "is a dict and would come back as an Item"),
    (dict, Item(1), "$", "is an Item and would come back as a dict"),
    (Greedy, Greedy(1), "$.count", "comes back different: 3 instead of 2"),
    (Options, {"depth": 1, "other": 2}, "$", "has the key 'other'"),
    (Pair, (1, "b"), "$", "is a tuple and would come back as a Pair"),
    (Tree, Tree(1, [Tree(WRONG)]), "$.children[0].value", "expected `int`"),
    (Annotated[int, msgspec.Meta(ge=1)], 0, "$", "expected `int` >= 1"),
    (Literal["a"], "b", "$", "invalid enum value"),
    (datetime, datetime(2026, 1, 1, tzinfo=BERLIN), "$", "Europe/Berlin, of which only the offset"),
    (datetime, datetime(2026, 10, 25, 2, 30, fold=1), "$", "fold=1"),  # noqa: DTZ001 - meant
    (datetime, datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=5))), "$", "whole minutes"),
]


@pytest.mark.parametrize(
    ("annotation", "value", "path", "text"),
    REFUSED,
    ids=[f"{place}-{path}" for place, (_, _, path, _) in enumerate(REFUSED)],
)
def test_a_value_that_its_type_does_not_bring_back_is_refused_p24(
    payloads: Payloads, annotation: Any, value: Any, path: str, text: str
) -> None:
    with pytest.raises(PayloadError) as refusal:
        payloads.shape(annotation).settle(value, where=WHERE)

    assert text.lower() in str(refusal.value).lower()
    assert refusal.value.path == path
    assert refusal.value.step == WHERE


def test_an_object_in_a_field_that_is_no_part_of_the_value_is_refused_with_its_path(payloads: Payloads) -> None:
    with pytest.raises(PayloadError, match="is a lock, which can't be stored") as refusal:
        payloads.shape(Locked).encode(Locked(1), where=WHERE)

    assert refusal.value.path == "$.lock"


def test_an_error_of_the_class_itself_is_the_cause_of_the_refusal(payloads: Payloads) -> None:
    moody = Moody(0)
    moody.count = 1

    with pytest.raises(PayloadError, match="LookupError: no such count") as refusal:
        payloads.shape(Moody).settle(moody, where=WHERE)

    assert isinstance(refusal.value.__cause__, LookupError)


def test_an_int_where_a_float_is_annotated_comes_back_as_the_equal_float(payloads: Payloads) -> None:
    """PEP 484 lets an int stand for a float: refusing it would fail programs that type-check."""
    text, settled = payloads.shape(list[float]).settle([1, 2.5], where=WHERE)

    assert text == "[1,2.5]"
    assert repr(settled) == "[1.0, 2.5]"


def test_a_fixed_zone_called_utc_is_utc(payloads: Payloads) -> None:
    when = datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))

    assert payloads.shape(datetime).settle(when, where=WHERE)[1] == when


def test_deep_typed_values_are_refused_cleanly_both_ways_p24(payloads: Payloads) -> None:
    shape = payloads.shape(Tree)
    tree = Tree(0)
    for _ in range(249):
        tree = Tree(0, [tree])
    assert same(tree, shape.settle(tree, where=WHERE)[1])
    for _ in range(10):
        tree = Tree(0, [tree])

    with pytest.raises(PayloadError, match="nests more than 500 levels"):
        shape.encode(tree, where=WHERE)
    with pytest.raises(PayloadError, match="nests too deep"):
        shape.decode('{"value":0,"children":[' * 50_000 + "]}" * 50_000, where=WHERE)


def test_a_cycle_of_typed_values_is_refused_with_its_path_p24(payloads: Payloads) -> None:
    tree = Tree(0)
    tree.children.append(tree)

    with pytest.raises(PayloadError, match="contains itself") as refusal:
        payloads.shape(Tree).encode(tree, where=WHERE)

    assert refusal.value.path == "$.children[0]"


def test_equal_sets_encode_to_equal_texts_and_dicts_keep_their_order(payloads: Payloads) -> None:
    shape = payloads.shape(Order)
    words = [f"w{number}" for number in range(50)]
    backwards = sorted(words, reverse=True)

    one = shape.encode(Order([], set(words), notes={"z": 1, "a": 2}), where=WHERE)
    other = shape.encode(Order([], set(backwards), notes={"z": 1, "a": 2}), where=WHERE)

    assert one == other
    assert '"tags":["w0","w1","w10"' in one
    assert '{"z":1,"a":2}' in one


def test_sets_are_sorted_inside_frozen_structs_tuples_and_sets_too(payloads: Payloads) -> None:
    shape = payloads.shape(tuple[Person, set[frozenset[str]]])
    value = (Person("p", frozenset("edcba")), {frozenset("zyx"), frozenset("cba")})

    text, settled = shape.settle(value, where=WHERE)

    assert text == '[{"name":"p","friends":["a","b","c","d","e"]},[["a","b","c"],["x","y","z"]]]'
    assert settled == value


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"items":[{"price":"x","name":""}]}', "$.items[0].price"),
        ('{"items":[{"name":""}]}', "$.items[0]"),
        ('{"items":3}', "$.items"),
        ("[]", "$"),
        ("not json", "$"),
    ],
)
def test_stored_text_that_no_longer_fits_names_the_place(payloads: Payloads, text: str, path: str) -> None:
    with pytest.raises(PayloadError, match="what is stored does not fit its type") as refusal:
        payloads.shape(Order).decode(text, where=WHERE)

    assert refusal.value.path == path


def test_the_key_under_which_stored_text_does_not_fit_is_named(payloads: Payloads) -> None:
    text = '{"a":{"x":{"price":1}},"b":{"x":{"price":1},"y":{"price":null},"z":{"price":null}}}'

    with pytest.raises(PayloadError) as refusal:
        payloads.shape(dict[str, dict[str, Item]]).decode(text, where=WHERE)

    assert refusal.value.path == "$.b.y.price"
