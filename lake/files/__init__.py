"""Partitions of data files: what is there, and how their rows are read."""
