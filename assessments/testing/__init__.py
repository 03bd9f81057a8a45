"""PostgreSQL servers and migrated databases for the demo, tests, benchmarks and hosts' tests."""
