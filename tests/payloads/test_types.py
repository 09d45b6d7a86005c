"""Types that can't be stored are refused when they are registered, with the type's name and a cure."""

from __future__ import annotations

import collections.abc as abc
from collections import OrderedDict
from datetime import datetime
from typing import Any, Union

import pytest

from kagzi.errors import ConfigError
from kagzi.payloads import Payloads
from tests.payloads.samples import Address, Box, Connection, Customer, Item, Mixed, Order, Point


@pytest.mark.parametrize(
    ("annotation", "name", "cure"),
    [
        (Item | Point, "Item", "msgspec Structs with a tag"),
        (list[Union[Item, Point]], "Point", "msgspec Structs with a tag"),  # noqa: UP007 - the old spelling too
        (Item | dict[str, int], "Item", "msgspec Structs with a tag"),
        (datetime | str, "datetime", "choose one"),
        (list[int] | set[int], "set", "choose one"),
        (Address | int, "Address", "only None can stand"),
        (Mixed, "Mixed", "all str or all int"),
        (Connection, "Connection", "Use a dataclass"),
        (list[Connection], "Connection", "Use a dataclass"),
        (Box[Connection], "Connection", "Use a dataclass"),
        (complex, "complex", "Use a dataclass"),
        (OrderedDict[str, int], "OrderedDict", "Use a dataclass"),
        (abc.Callable[[], int], "Callable", "such as a list"),
        (abc.Iterable[int], "Iterable", "such as a list"),
        (type[int], "type", "Use a dataclass"),
        (dict[tuple[int, int], int], "tuple", "a list of pairs"),
        ("Item", "Item", "Use a dataclass"),
        (5, "5", "Use a dataclass"),
    ],
    ids=str,
)
def test_a_type_that_cannot_be_stored_is_refused_at_registration(
    payloads: Payloads, annotation: Any, name: str, cure: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        payloads.shape(annotation)

    assert name in str(refusal.value)
    assert cure in str(refusal.value)


def test_the_shape_of_a_type_is_made_once(payloads: Payloads) -> None:
    assert payloads.shape(list[Order]) is payloads.shape(list[Order])
    assert payloads.shape(list[Order]) is not payloads.shape(list[Customer])


def test_types_made_on_the_fly_do_not_pile_up(payloads: Payloads) -> None:
    for number in range(2500):
        payloads.shape(type(f"Local{number}", (Item,), {}))

    assert len(payloads._shapes) <= 2000
