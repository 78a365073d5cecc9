"""Trials from the rows of users' own tables."""
