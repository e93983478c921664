"""Independent implementations that the engine is compared with."""
