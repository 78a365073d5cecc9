"""The questions that a user can ask about a model, one per module."""
