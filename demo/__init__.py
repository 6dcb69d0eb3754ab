"""The demo: the flights that left New York in 2013. Not part of the package."""
