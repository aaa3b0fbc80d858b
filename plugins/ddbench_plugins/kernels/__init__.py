"""Kernels of infinitely wide networks, and ridge regression with them."""
