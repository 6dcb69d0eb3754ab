"""The output of commands: progress, results and errors."""
