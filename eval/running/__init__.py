"""From a plan to results on disk: the grid, one cell, the measuring of it, and the run's folder."""
