"""Where record batches come from and where scores go."""
