"""Bars of what takes long: a notebook's own where it has any, else text."""

import warnings

with warnings.catch_warnings():
    # tqdm advises to install ipywidgets wherever it is imported first; text will do.
    warnings.filterwarnings("ignore", message="IProgress not found")
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
