"""The driver of a load test: starts a pipeline, loads it, and records what it does."""
