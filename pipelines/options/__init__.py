"""Command-line options, in families, and the checked settings they become."""
