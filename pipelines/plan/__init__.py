"""Plans: what a run will do, checked before the first row."""
