"""NDIF servers, on which programs run."""
