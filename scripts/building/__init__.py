"""From a recipe to an archive."""
