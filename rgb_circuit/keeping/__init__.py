"""Runs on disk: what shaped their numbers, what was measured, and reading it back."""
