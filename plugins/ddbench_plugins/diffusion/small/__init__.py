"""The small latent diffusion model: sizes, tokenizer, training, and those that ship with the package."""
