"""What a command prints while it works and when it has ended."""
