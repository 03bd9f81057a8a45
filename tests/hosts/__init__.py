"""What hosts bring: their toolkit, framework, tables and tests."""
