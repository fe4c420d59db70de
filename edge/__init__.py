"""The same model for other languages, devices and servers."""
