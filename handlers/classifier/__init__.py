"""The core: bytes of pictures in, predictions out. Knows nothing of any server."""
