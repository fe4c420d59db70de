"""TorchServe itself: its processes, ports, messages, settings and log. No other folder deals with them."""
