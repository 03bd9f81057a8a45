"""Ratios against peers in the same run; run one with ``python -m benchmarks.NAME``."""
