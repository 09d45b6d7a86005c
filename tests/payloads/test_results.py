"""What a function returns is stored by its return annotation."""

from __future__ import annotations

import functools
import gc
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import pytest

from kagzi.errors import ConfigError, PayloadError
from kagzi.payloads import Payloads
from tests.payloads.samples import Connection, Item, Pair

if TYPE_CHECKING:
    from decimal import Decimal

WHERE = "step 'charge'"
T = TypeVar("T")
ITEM = Item(2**70, "x")


async def coroutine() -> Item:
    return ITEM


def function(price: int = 1) -> Item:
    return ITEM


def awaitable() -> Awaitable[Item]:
    return coroutine()


def typed_coroutine() -> Coroutine[Any, Any, Item]:
    return coroutine()


class Service:
    def method(self) -> Item:
        return ITEM

    @staticmethod
    def static() -> Item:
        return ITEM

    @classmethod
    def made(cls) -> Item:
        return ITEM

    def __call__(self) -> Item:
        return ITEM


def logged(fn: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> T:
        return fn(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    "fn",
    [
        coroutine,
        function,
        awaitable,
        typed_coroutine,
        Service().method,
        Service.static,
        Service.made,
        Service(),
        functools.partial(function, price=2),
        functools.partial(functools.partial(Service().method)),
        functools.lru_cache(function),
        logged(function),
        logged(coroutine),
        Item,
    ],
)
def test_a_result_is_stored_by_the_return_annotation(payloads: Payloads, fn: Any) -> None:
    shape = payloads.result_shape(fn)

    assert shape.settle(ITEM, where=WHERE)[1] == ITEM
    assert payloads.result_shape(fn) is shape


def unannotated():  # type: ignore[no-untyped-def]  # that is the point
    return None


def generic(value: T) -> T:
    return value


def never() -> NoReturn:
    raise LookupError


def elsewhere() -> Decimal:
    raise LookupError


@pytest.mark.parametrize(
    "fn", [unannotated, generic, never, elsewhere, lambda: None, len, print, max], ids=lambda fn: fn.__name__
)
def test_a_result_that_nothing_types_takes_json_values(payloads: Payloads, fn: Any) -> None:
    shape = payloads.result_shape(fn)

    assert shape.settle({"a": [1]}, where=WHERE)[1] == {"a": [1]}
    with pytest.raises(PayloadError, match=r"\$\.a is a Pair"):
        shape.encode({"a": Pair(1)}, where=WHERE)


def test_the_refusal_of_an_untyped_result_says_how_to_type_it(payloads: Payloads) -> None:
    with pytest.raises(PayloadError) as refusal:
        payloads.result_shape(unannotated).encode({"item": ITEM}, where="step 'fetch'")

    assert str(refusal.value) == (
        "step 'fetch': $.item is an Item, but nothing says what to read it back as. "
        "Annotate the return type of the function, or return JSON values."
    )


def test_the_refusal_of_a_result_whose_annotation_is_unknown_names_the_name(payloads: Payloads) -> None:
    with pytest.raises(PayloadError, match=r"elsewhere\(\) can't be resolved \(name 'Decimal' is not defined\)"):
        payloads.result_shape(elsewhere).encode(ITEM, where=WHERE)


def test_a_function_that_returns_none_by_annotation_may_return_nothing_else(payloads: Payloads) -> None:
    async def notify() -> None: ...

    shape = payloads.result_shape(notify)

    assert shape.settle(None, where=WHERE) == ("null", None)
    with pytest.raises(PayloadError, match="is a str, but its annotation is None"):
        shape.encode("sent", where=WHERE)


def test_a_result_that_cannot_be_stored_is_named_with_the_function(payloads: Payloads) -> None:
    def connect() -> Connection:
        return Connection()

    with pytest.raises(ConfigError, match=r"the result of .*connect\(\): the type Connection can't be stored"):
        payloads.result_shape(connect)


def test_functions_made_per_call_are_not_kept(payloads: Payloads) -> None:
    def call_once() -> None:
        def local() -> Item:
            return ITEM

        payloads.result_shape(local)
        payloads.result_shape(lambda: None)
        payloads.result_shape(functools.partial(local))

    for _ in range(100):
        call_once()
    gc.collect()

    assert payloads._results == {}


def test_a_function_at_the_address_of_a_dead_one_is_not_taken_for_it(payloads: Payloads) -> None:
    for number in range(50):

        def one() -> int:
            return 1

        def other() -> str:
            return ""

        fn: Any = one if number % 2 else other
        payloads.result_shape(fn).encode(fn(), where=WHERE)
        del one, other, fn
