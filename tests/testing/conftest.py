"""An application that no test connects to a database of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagzi import Kagzi


@pytest.fixture
def kagzi(tmp_path: Path) -> Kagzi:
    """An application that was never connected; nobody makes its file."""
    return Kagzi(f"sqlite:///{tmp_path}/never-made.db")
