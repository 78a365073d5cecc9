"""What a user asks of a model: one question a module."""
