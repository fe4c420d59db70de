"""Reading archives: their format, the store that they lie in, and loading one into this process."""
