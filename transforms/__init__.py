"""Beam steps: one file per step, the pure function above, its PTransform beneath."""
