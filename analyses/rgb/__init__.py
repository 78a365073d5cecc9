"""Analyses for the RGB game only."""
