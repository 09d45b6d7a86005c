"""Types that the payload tests store."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pydantic

T = TypeVar("T")


@dataclass
class Item:
    price: int
    name: str = ""


@dataclass
class Gift(Item):
    wrapping: str = "paper"


@dataclass
class Order:
    items: list[Item]
    tags: set[str] = field(default_factory=set)
    when: datetime | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float


@dataclass(eq=False)
class Incomparable:
    items: list[Point]


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)


@dataclass
class Derived:
    """Has fields that nobody gives."""

    count: int
    total: int = field(default=0, init=False)
    cache: dict[str, int] = field(default_factory=dict, init=False, compare=False)


@dataclass
class Locked:
    count: int
    lock: Any = field(default_factory=threading.Lock, init=False, compare=False, repr=False)


@dataclass
class Greedy:
    """Changes at each construction, so that it never comes back as it was."""

    count: int

    def __post_init__(self) -> None:
        self.count += 1


@dataclass
class Moody:
    """Can be made, but not read back."""

    count: int

    def __post_init__(self) -> None:
        if self.count != 0:
            raise LookupError("no such count")


class Person(msgspec.Struct, frozen=True):
    name: str
    friends: frozenset[str] = frozenset()


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    legs: int


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Options(TypedDict):
    depth: int
    label: NotRequired[str]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


class Flags(enum.Flag):
    A = 1
    B = 2


class Name(str):
    """A subclass of str."""

    __slots__ = ()


class Connection:
    """No value: nothing could bring it back."""


class Address(pydantic.BaseModel):
    street: str = pydantic.Field(alias="Street")
    since: datetime | None = None
    labels: set[str] = set()

    @pydantic.computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def shout(self) -> str:
        return self.street.upper()


class Forgetful(pydantic.BaseModel):
    kept: int
    secret: int = pydantic.Field(default=0, exclude=True)


class Open(pydantic.BaseModel, extra="allow"):
    known: int


@dataclass
class Customer:
    address: Address
    former: list[Address] = field(default_factory=list)
    by_name: dict[str, Address] = field(default_factory=dict)
    second: Address | None = None


Size = Literal["s", "m", 3]
