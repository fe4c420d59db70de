"""Exports a model to the file that a runtime loads: one module for each module of `handlers/classifier/runtimes/`."""
