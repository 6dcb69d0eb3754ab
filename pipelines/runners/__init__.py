"""Runners: the engines that run a pipeline, and their options."""
