"""Calls are stored by the types of their parameters; equal calls make equal texts."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import pytest

from kagzi.errors import ConfigError, PayloadError
from kagzi.payloads import CallShape, Payloads
from tests.payloads.samples import Connection, Item, Order

if TYPE_CHECKING:
    from decimal import Decimal

WHERE = "input of workflow 'order'"
WRONG: Any = "x"  # where an int belongs


def plain(ctx: object, item: Item, count: int = 1, note: str | None = None) -> None: ...


def with_keywords(ctx: object, item: Item, *, gift: bool = False, to: str) -> None: ...


def with_rest(ctx: object, first: int, *items: Item, **tags: str) -> None: ...


def positional_only(ctx: object, item: int, /, **tags: int) -> None: ...


def untyped(ctx, a, b=2):  # type: ignore[no-untyped-def]  # that is the point
    ...


class Service:
    async def method(self, ctx: object, item: Item) -> None: ...

    async def __call__(self, ctx: object, item: Item) -> None: ...


def call_shape(fn: Any) -> CallShape:
    return Payloads().signature(fn, skip_first=True)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "text"),
    [
        (plain, (Item(1),), {}, '[{"price":1,"name":""}]'),
        (plain, (Item(1), 2, "n"), {}, '[{"price":1,"name":""},2,"n"]'),
        (plain, (), {"note": "n", "item": Item(1)}, '[{"price":1,"name":""},1,"n"]'),
        (plain, (Item(2**70),), {"count": 5}, '[{"price":1180591620717411303424,"name":""},5]'),
        (with_keywords, (Item(1),), {"to": "x"}, '{"args":[{"price":1,"name":""}],"kwargs":{"to":"x"}}'),
        (
            with_keywords,
            (),
            {"to": "x", "gift": True, "item": Item(1)},
            '{"args":[{"price":1,"name":""}],"kwargs":{"gift":true,"to":"x"}}',
        ),
        (with_rest, (1,), {}, "[1]"),
        (with_rest, (1, Item(2), Item(3)), {}, '[1,{"price":2,"name":""},{"price":3,"name":""}]'),
        (with_rest, (1,), {"z": "1", "a": "2"}, '{"args":[1],"kwargs":{"a":"2","z":"1"}}'),
        (positional_only, (1,), {"item": 2}, '{"args":[1],"kwargs":{"item":2}}'),
        (untyped, ([1], {"a": None}), {}, '[[1],{"a":null}]'),
        (Service().method, (Item(1),), {}, '[{"price":1,"name":""}]'),
        (Service(), (), {"item": Item(1)}, '[{"price":1,"name":""}]'),
        (functools.partial(plain, note="n"), (Item(1),), {"count": 3}, '[{"price":1,"name":""},3]'),
    ],
)
def test_a_call_comes_back_as_it_was_made_p24(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    shape = call_shape(fn)

    encoded = shape.encode(args, kwargs, where=WHERE)
    back, back_by_keyword = shape.decode(encoded, where=WHERE)

    assert encoded == text
    assert shape.encode(back, back_by_keyword, where=WHERE) == text
    given = {repr(value) for value in (*args, *kwargs.values())}
    assert given <= {repr(value) for value in (*back, *back_by_keyword.values())}


def test_equal_calls_make_equal_texts() -> None:
    shape = call_shape(with_rest)

    texts = {
        shape.encode((1,), {"a": "x", "b": "y"}, where=WHERE),
        shape.encode((), {"b": "y", "first": 1, "a": "x"}, where=WHERE),
    }

    assert len(texts) == 1


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "text"),
    [
        (plain, (), {}, "plain() missing a required argument: 'item'"),
        (plain, (Item(1), 1, "n", 4), {}, "plain() too many positional arguments"),
        (plain, (Item(1),), {"colour": "red"}, "plain() got an unexpected keyword argument 'colour'"),
        (plain, (Item(1),), {"item": Item(2)}, "plain() multiple values for argument 'item'"),
        (with_keywords, (Item(1),), {}, "with_keywords() missing a required argument: 'to'"),
    ],
)
def test_a_wrong_call_raises_type_error_naming_the_function(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(text.removesuffix("'to'"))):
        call_shape(fn).encode(args, kwargs, where=WHERE)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "path"),
    [
        (plain, (Item(WRONG),), {}, "$.item.price"),
        (plain, (Item(1), True), {}, "$.count"),
        (with_keywords, (Item(1),), {"to": 5}, "$.to"),
        (with_rest, (1, Item(1), Item(WRONG)), {}, "$.items[1].price"),
        (with_rest, (1,), {"tag": 5}, "$.tag"),
        (untyped, ([1, (2,)],), {}, "$.a[1]"),
    ],
)
def test_an_argument_that_does_not_come_back_is_refused_naming_its_path_p24(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str
) -> None:
    with pytest.raises(PayloadError, match=r"^input of workflow 'order': ") as refusal:
        call_shape(fn).encode(args, kwargs, where=WHERE)

    assert refusal.value.path == path
    assert refusal.value.step == WHERE


def test_an_old_run_may_lack_parameters_that_have_a_default() -> None:
    shape = call_shape(plain)

    assert shape.decode('[{"price":1}]', where=WHERE) == ((Item(1),), {})
    assert shape.decode('{"kwargs":{"item":{"price":1}}}', where=WHERE) == ((), {"item": Item(1)})


@pytest.mark.parametrize(
    ("fn", "text", "reason"),
    [
        (plain, "[]", "no argument for 'item'"),
        (plain, '[{"price":1},1,"n",4]', "4 positional arguments, and it takes 3"),
        (plain, '{"args":[{"price":1}],"kwargs":{"item":{"price":1}}}', "two arguments for 'item'"),
        (plain, '{"args":[{"price":1}],"kwargs":{"colour":1}}', "an argument 'colour' that it does not take"),
        (with_keywords, '[{"price":1}]', "no argument for 'to'"),
        (plain, "3", "not a call"),
        (plain, '{"price":1}', "not a call"),
        (plain, "", "not a call"),
        (plain, "[1", "not a call"),
        (plain, '[{"price":"x"}]', "$.item.price"),
        (untyped, "[" * 100_000, "not a call"),
    ],
)
def test_a_stored_call_that_the_function_cannot_take_is_refused_p23(fn: Any, text: str, reason: str) -> None:
    with pytest.raises(PayloadError, match=re.escape(reason)):
        call_shape(fn).decode(text, where=WHERE)


def test_a_call_of_a_workflow_that_is_not_here_takes_json_values(payloads: Payloads) -> None:
    shape = payloads.untyped_call()

    text = shape.encode((1, "a"), {"z": [2**70], "b": None}, where=WHERE)

    assert text == '{"args":[1,"a"],"kwargs":{"b":null,"z":[1180591620717411303424]}}'
    assert shape.decode(text, where=WHERE) == ((1, "a"), {"b": None, "z": [2**70]})
    assert shape.encode((1,), {}, where=WHERE) == call_shape(untyped).encode((1,), {}, where=WHERE)
    with pytest.raises(PayloadError, match=r"\$\[1\] is an Item, but nothing says"):
        shape.encode((1, Item(1)), {}, where=WHERE)


def test_an_unknown_name_in_an_annotation_is_named_with_the_function(payloads: Payloads) -> None:
    def pay(ctx: object, amount: Decimal) -> None: ...

    with pytest.raises(ConfigError, match=r"pay\(\) can't be resolved: name 'Decimal' is not defined.*TYPE_CHECKING"):
        payloads.signature(pay, skip_first=True)


def test_a_name_of_the_enclosing_function_is_found(payloads: Payloads) -> None:
    class Local(Order):
        pass

    def pay(ctx: object, order: Local) -> type:
        return Local

    assert payloads.signature(pay, skip_first=True).encode((Local([]),), {}, where=WHERE)


def test_a_parameter_that_cannot_be_stored_is_named_with_the_function(payloads: Payloads) -> None:
    def connect(ctx: object, to: Connection) -> None: ...

    with pytest.raises(ConfigError, match=r"parameter 'to' of .*connect\(\): the type Connection can't be stored"):
        payloads.signature(connect, skip_first=True)


def test_the_type_of_a_first_parameter_that_is_skipped_does_not_matter(payloads: Payloads) -> None:
    def run(ctx: Connection, item: Item) -> None: ...

    assert payloads.signature(run, skip_first=True).encode((Item(1),), {}, where=WHERE)
    with pytest.raises(ConfigError):
        payloads.signature(run, skip_first=False)


def test_a_workflow_must_take_a_context(payloads: Payloads) -> None:
    with pytest.raises(ConfigError, match="takes no context"):
        payloads.signature(lambda: None, skip_first=True)


def test_a_builtin_without_a_signature_takes_json_values(payloads: Payloads) -> None:
    shape = payloads.signature(max, skip_first=False)

    assert shape.decode(shape.encode((1, 2), {}, where=WHERE), where=WHERE) == ((1, 2), {})
