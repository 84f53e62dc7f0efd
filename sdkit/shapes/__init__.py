"""The bundled demonstration model: its world, its judge, its training and its weights."""
