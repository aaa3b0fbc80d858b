"""DiT: images of a class-conditional diffusion transformer."""
