"""State-space layers: the selective scan, its backends, and the blocks built on it."""
