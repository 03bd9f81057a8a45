"""Mutations of ``sql/`` and ``assessments/``, and what runs them: ``make mutations``."""
