"""Measurements of what runs the grid, with their tables."""
