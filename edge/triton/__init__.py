"""The model on NVIDIA's Triton."""
