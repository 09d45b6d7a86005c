"""A blocking application of its own for each test, on a database of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kagzi import blocking
from tests.blocking.flows import an_application


@pytest.fixture
def kagzi(any_database_url: str) -> Iterator[blocking.Kagzi]:
    """An application that connects when it is first used, without a worker."""
    kagzi = an_application(any_database_url)
    yield kagzi
    kagzi.close()
