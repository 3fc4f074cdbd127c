"""CPU kernels, compiled by Numba on first call and cached on disk; one file per kernel."""
