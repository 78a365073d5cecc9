"""Running a program where the weights are, and what is checked of its numbers."""
