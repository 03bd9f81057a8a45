"""The URL of another database on the suite's server."""

from __future__ import annotations

from assessments.testing.databases import database_url

__all__ = ["database_url"]
