"""Builds archives from recipes."""
