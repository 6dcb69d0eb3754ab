"""Maintenance of worker processes: memory, state sampling, heartbeats."""
