"""Runs on disk: their manifests, their results, and reading both back."""
