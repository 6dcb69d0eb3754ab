"""The commands: argv → checked settings → plan → graph → report."""
