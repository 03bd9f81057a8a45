"""PostgreSQL servers and migrated databases for tests: this suite's, the demo's, benchmarks'."""
