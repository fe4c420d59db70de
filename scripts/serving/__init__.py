"""Starting, stopping and managing a server."""
