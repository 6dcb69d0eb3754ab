"""Replace the model of a running stream by a newer version that is as good."""
