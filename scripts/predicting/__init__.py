"""Asking a model about a picture, with a server or without."""
