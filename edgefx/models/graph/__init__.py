"""The canonical graph: what every conversion starts from, and the passes that make it."""
