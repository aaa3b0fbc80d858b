"""D3HR: latents drawn in groups from a class's distribution after DDIM inversion, then denoised."""
