"""Cheaper variants of a model, and the proof on a user's own rows that they are as good."""
