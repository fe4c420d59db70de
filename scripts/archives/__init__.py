"""What an archive is, for whoever reads one: its format, the store that it lies in, its content loaded."""
