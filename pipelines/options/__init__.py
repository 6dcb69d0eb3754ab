"""Command-line options, in families, and their checked settings."""
