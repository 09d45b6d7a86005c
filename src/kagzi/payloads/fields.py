"""Which fields make up a value of a class: dataclass, msgspec Struct, attrs class or pydantic model."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec


def field_names(kind: type[Any]) -> tuple[str, ...] | None:
    """The names of the fields that must survive, in order of definition; None for a class without fields."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    if is_model(kind):
        names = tuple(getattr(kind, "model_fields", ()))
        config = getattr(kind, "model_config", None) or {}
        return (*names, "__pydantic_extra__") if config.get("extra") == "allow" else names
    attributes = getattr(kind, "__attrs_attrs__", None)
    if attributes is not None:
        return tuple(attribute.name for attribute in attributes)
    return None


def is_model(kind: Any) -> bool:
    """Whether `kind` is a class that dumps itself to JSON and validates itself from it, as pydantic's (2.x) do."""
    return isinstance(kind, type) and hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump_json")
