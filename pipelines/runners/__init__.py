"""Runners: where a pipeline runs, and what each runner needs."""
