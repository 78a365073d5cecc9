"""Run a program where the weights are, and check its numbers."""
