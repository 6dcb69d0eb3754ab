"""What a run will do, worked out and checked before the first row."""
