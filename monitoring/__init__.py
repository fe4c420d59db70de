"""Prometheus, its rules and alerts, and what people look at, for a running server."""
