"""Promises that hold when things break (`make faults`), in CI's size or ``SCALE=10`` times that."""
