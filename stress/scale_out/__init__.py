"""Several servers behind a gateway, on machines made of network namespaces."""
