"""Container images, manifests and the description of the API."""
