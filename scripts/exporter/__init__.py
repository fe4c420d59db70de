"""Collects what a server does, and shows it at one address: metrics for Prometheus, and health for load balancers."""
