"""CaO2: samples of a diffusion transformer that a classifier recognises, their latents refined."""
