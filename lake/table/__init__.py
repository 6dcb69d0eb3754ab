"""The Delta table of scores: staged files, commits, dead letters, repairs."""
