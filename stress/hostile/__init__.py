"""Hostile pictures, each with the one answer that it must get."""
