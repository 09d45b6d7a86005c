"""`kagzi demo`: a workflow survives the death of its worker before the reader's eyes."""

from kagzi.cli.demo.command import demo

__all__ = ["demo"]
