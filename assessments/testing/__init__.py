"""PostgreSQL servers and migrated databases for hosts' tests, the demo and the benchmarks.

As a pytest plugin, ``pytest_plugins = ["assessments.testing"]``, it brings the fixtures of
`assessments.testing.plugin`. Imported, it loads none of them, and no pytest.

A conftest.py may import it before pytest loads it as a plugin: PYTEST_DONT_REWRITE.
"""

pytest_plugins = ["assessments.testing.plugin"]
