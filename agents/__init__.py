"""Hand-written agents: three tiers (load, connections, scaling) composed by a controller."""
