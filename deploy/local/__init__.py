"""Engines as real processes of this machine, on loopback: for `make`, tests and benchmarks."""
