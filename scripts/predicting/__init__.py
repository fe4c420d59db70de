"""Classifies and explains a picture, with a server or without."""
