"""Data at rest: partitions of files, and the table of scores; neither Beam nor TensorFlow."""
