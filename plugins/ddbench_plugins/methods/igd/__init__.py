"""IGD: samples of a diffusion transformer, led to what trains a classifier as real images do, and apart."""
