"""Beam steps: one file per step, the pure function first, its PTransform after it."""
