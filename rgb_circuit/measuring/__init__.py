"""Measurements as values, what they cost, and running many of them in one pass."""
