"""Measurements as values, their cost, and running many of them in one pass."""
