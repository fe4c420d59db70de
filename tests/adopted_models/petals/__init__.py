"""What the networks of `meadow` are made of."""
