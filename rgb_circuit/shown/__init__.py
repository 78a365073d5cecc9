"""Calls that ask a model and draw what it did."""
