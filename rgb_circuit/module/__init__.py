"""The bare module and its processor: what must hold of them before a run."""
