"""The bare module and its processor: their properties, and the checks before a run."""
