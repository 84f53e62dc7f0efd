"""Measurements of the report, with their tables."""
