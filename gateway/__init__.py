"""Envoy in front of several servers."""
