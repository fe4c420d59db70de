"""The harness behind `make bench`."""
