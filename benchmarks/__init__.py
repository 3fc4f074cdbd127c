"""Measured against the rivals, interleaved in one run; results are kept in ``benchmarks/results``."""
