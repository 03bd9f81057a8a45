"""The public functions, call by call."""
