"""The example of an environment file says what the settings say."""

from __future__ import annotations

from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest

from kagzi.settings import Settings

EXAMPLE = Path(__file__).parent.parent / ".env.example"


def read_example() -> dict[str, tuple[str, str]]:
    """Read each variable's value and the comment above it."""
    entries: dict[str, tuple[str, str]] = {}
    comment = ""
    for line in EXAMPLE.read_text().splitlines():
        if line.startswith("#"):
            comment = line.removeprefix("# ")
        elif line:
            variable, _, value = line.partition("=")
            entries[variable] = (value, comment)
    return entries


def test_the_example_lists_exactly_the_settings_in_their_order() -> None:
    assert list(read_example()) == [setting.metadata["variable"] for setting in fields(Settings)]


def test_the_example_gives_the_defaults() -> None:
    values = {variable: value for variable, (value, _) in read_example().items()}

    settings = Settings.from_environment(values)

    assert settings == Settings()
    assert [variable for variable, value in values.items() if not value] == ["KAGZI_BUILD_ID"]  # there is none


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name)
def test_the_example_tells_the_meaning_of_each_setting(setting: Field[Any]) -> None:
    _, comment = read_example()[setting.metadata["variable"]]

    assert comment.casefold() == setting.metadata["meaning"].casefold()
