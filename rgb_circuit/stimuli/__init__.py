"""What a model is shown: tasks, their files, and trials that are drawn."""
