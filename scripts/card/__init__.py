"""The page that is handed over with an archive: what it is, how right, how fast, and what it answers."""
