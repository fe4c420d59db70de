"""Measures how accurate a model is, and how its archives differ."""
