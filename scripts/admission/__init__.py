"""What an archive must pass before it is served."""
