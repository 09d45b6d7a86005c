"""Fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fleet import Fleet


@pytest.fixture
def fleet(any_database_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """Worker processes, none yet, on a SQLite file and on PostgreSQL."""
    with Fleet(any_database_url, tmp_path) as fleet:
        yield fleet
