"""The checks that an archive must pass before it is served."""
