"""Examples that run as they stand: ``python -m examples.NAME``."""
