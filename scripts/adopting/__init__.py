"""From what people have to a recipe: `make adopt`."""
