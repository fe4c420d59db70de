"""Harm done to a server on purpose, and what its clients see of it."""
