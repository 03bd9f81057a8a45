"""What the tests of the example programs share."""

from __future__ import annotations

import pytest

from tests.helpers import scoring


@pytest.fixture
async def queue(database: str) -> None:
    """Create the queue's tables in this test's database."""
    await scoring.install(database)
