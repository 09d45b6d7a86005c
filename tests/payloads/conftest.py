"""What the payload tests stand on."""

from __future__ import annotations

import pytest

from kagzi.payloads import Payloads


@pytest.fixture
def payloads() -> Payloads:
    """The payloads of an application with default settings."""
    return Payloads()
