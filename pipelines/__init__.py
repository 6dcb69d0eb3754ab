"""The commands: argv → checked settings → graph → result."""

__version__ = "0.2.0"
