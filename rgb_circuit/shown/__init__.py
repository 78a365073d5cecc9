"""Calls that run a model and draw what it did."""
