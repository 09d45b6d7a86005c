"""Scopes: where operations get their identity from, so that it follows the source text."""

from __future__ import annotations

ROOT_SCOPE = "0"
"""The scope of the body itself; a task that it makes has `0.1`, the next `0.2`, a task of that `0.2.1`.
A parallel group opens `0.name#1`, and tasks that are its branches `0.name#1.1`."""

_ESCAPES = str.maketrans({character: f"%{ord(character):02X}" for character in "%/.#"})


class Scope:
    """Where operations get their identity: a path of creation numbers, and how often each name was used in it."""

    __slots__ = ("children", "groups", "names", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.children = 0
        self.names: dict[str, int] = {}
        self.groups: dict[str, int] | None = None  # made when first needed: most scopes hold no group

    def child(self) -> Scope:
        """Open the scope of the next task made here."""
        self.children += 1
        return Scope(f"{self.path}.{self.children}")

    def group(self, name: str) -> Scope:
        """Open the scope of the next group of this name; neither steps nor tasks nor other groups count along."""
        groups = self.groups
        if groups is None:
            groups = self.groups = {}
        occurrence = groups.get(name, 0) + 1
        groups[name] = occurrence
        return Scope(f"{self.path}.{name.translate(_ESCAPES)}#{occurrence}")

    def identify(self, name: str) -> str:
        """Give the next operation of this name its identity: `scope/name#occurrence`."""
        occurrence = self.names.get(name, 0) + 1
        self.names[name] = occurrence
        return f"{self.path}/{name}#{occurrence}"
