"""Trials from the rows of tables as people have them."""
