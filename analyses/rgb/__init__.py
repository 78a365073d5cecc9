"""Analyses that belong to the RGB game alone."""
