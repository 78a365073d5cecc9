"""A run's files, and those of others: whole or not at all, locked, and read as text."""
