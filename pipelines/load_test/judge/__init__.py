"""The judge of a load test: measured series → verdict. No clock, no processes, no files."""
