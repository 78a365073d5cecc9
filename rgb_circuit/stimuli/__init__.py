"""The stimuli: tasks, their files, and the trials drawn from them."""
