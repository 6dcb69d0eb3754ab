"""The commands: argv → checked settings → graph → result."""

__version__ = "0.1.0"
