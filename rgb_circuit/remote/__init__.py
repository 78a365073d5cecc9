"""NDIF servers, as places where programs run."""
