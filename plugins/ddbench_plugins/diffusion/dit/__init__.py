"""Latent diffusion transformers (DiT): loading, a small one trained on the data set, sampling, and what is measured."""
