"""The demo: flights from New York in 2013. Not part of the package."""
