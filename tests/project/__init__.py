"""The pages, the examples and the wheel."""
