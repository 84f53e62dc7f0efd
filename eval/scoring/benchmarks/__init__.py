"""Measurements of the figures themselves, whose tables are committed beside them."""
