"""IT-GAN: informative latents of a frozen generator (Zhao and Bilen 2022)."""
