"""What D4M and VLCP share: load, fine-tune and run a latent diffusion model, or train a small one from scratch."""
