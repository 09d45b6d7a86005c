"""What a type annotation means for storing: whether it can work, and what to watch."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import msgspec.inspect as look

from kagzi.errors import ConfigError
from kagzi.payloads.fields import is_model


@dataclass(frozen=True, slots=True, kw_only=True)
class TypePlan:
    """`atoms` are the classes whose values always come back as they are; `has_sets` asks for an order."""

    annotation: Any
    atoms: frozenset[type]
    has_sets: bool
    is_model: bool


def plan_type(annotation: Any) -> TypePlan:
    """Judge an annotation. Raises ConfigError, naming the type and the cure, if nothing could be read back as it."""
    plain = Any if annotation is object else type(None) if annotation is None else annotation
    if is_model(plain):
        return TypePlan(annotation=plain, atoms=frozenset(), has_sets=True, is_model=True)
    try:
        tree = look.type_info(plain)
        msgspec.json.Decoder(plain)
    except Exception as error:
        raise ConfigError(f"{type_name(annotation)} can't be stored: {_cure(str(error))}") from error
    nodes = list(_walk(tree, set()))
    for node in nodes:
        if isinstance(node, look.CustomType) and node.cls is not object and not is_model(node.cls):
            raise ConfigError(_unreadable(annotation, node.cls))
        if isinstance(node, look.DictType) and isinstance(node.key_type, _NO_KEYS):
            raise ConfigError(
                f"{type_name(annotation)} can't be stored: the keys of a JSON object are strings. "
                "Use a dict with str, int, UUID, date or Enum keys, or a list of pairs."
            )
    return TypePlan(
        annotation=plain,
        atoms=_atoms(plain),
        has_sets=any(isinstance(node, (look.SetType, look.FrozenSetType)) for node in nodes),
        is_model=False,
    )


def type_name(annotation: Any) -> str:
    """The annotation as its author wrote it, near enough."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return f"the type {annotation.__qualname__}"
    return f"the type {annotation!r}".replace("typing.", "")


_NO_KEYS = (
    look.CollectionType,
    look.TupleType,
    look.DictType,
    look.StructType,
    look.DataclassType,
    look.TypedDictType,
    look.NamedTupleType,
    look.BoolType,
    look.NoneType,
)
_JSON_ATOMS: frozenset[type] = frozenset({str, int, float, bool, type(None)})


def _atoms(annotation: Any) -> frozenset[type]:
    """Exact classes only: `Literal` or a constraint in `Annotated` lets no class through as a whole."""
    if annotation is Any:
        return _JSON_ATOMS
    if isinstance(annotation, type) and annotation in _JSON_ATOMS:
        return frozenset({annotation})
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return frozenset(kind for each in typing.get_args(annotation) for kind in _atoms(each))
    return frozenset()


def _walk(node: Any, seen: set[int]) -> Iterator[Any]:
    """Every node of a msgspec type tree, each once: a recursive type is a ring of nodes."""
    if id(node) in seen:
        return
    seen.add(id(node))
    yield node
    for name in ("item_type", "key_type", "value_type", "type"):
        child = getattr(node, name, None)
        if isinstance(child, look.Type):
            yield from _walk(child, seen)
    for child in (*getattr(node, "item_types", ()), *getattr(node, "types", ())):
        yield from _walk(child, seen)
    for field in getattr(node, "fields", ()):
        yield from _walk(field.type, seen)


def _unreadable(annotation: Any, kind: type) -> str:
    if kind.__module__ == "collections.abc":
        return f"{type_name(annotation)} can't be stored: name what is there to be read back, such as a list or a dict."
    inside = "" if annotation is kind else f" because of {kind.__qualname__}"
    return (
        f"{type_name(annotation)} can't be stored{inside}: nothing says how to read {kind.__qualname__} back. "
        "Use a dataclass, a msgspec Struct, a pydantic model or JSON values, and make the object from them where it "
        "is used."
    )


def _cure(reason: str) -> str:
    reason = reason[0].lower() + reason[1:] if reason[:2].istitle() else reason
    for sign, cure in _CURES.items():
        if sign in reason:
            return f"{reason.rstrip('.')}. {cure}"
    return f"{reason.rstrip('.')}. Use a dataclass, a msgspec Struct, a pydantic model or JSON values."


_TAG = (
    "JSON does not say which of them it holds: make them msgspec Structs with a tag (`class A(Struct, tag=True)`), "
    "or one dataclass with a field for each."
)

_CURES = {
    "more than one dataclass": _TAG,
    "more than one dict-like": _TAG,
    "more than one Struct": _TAG,
    "more than one untagged": _TAG,
    "more than one str-like": "All of them are strings in JSON: choose one, or put each in a field of its own.",
    "more than one array-like": "All of them are arrays in JSON: choose one, or put each in a field of its own.",
    "custom type": "Beside a pydantic model only None can stand: put the alternatives in a model with a discriminator.",
    "Enums must": "Give the enum's members values of one kind, all str or all int.",
}
