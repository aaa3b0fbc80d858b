"""D4M: class prototypes in latent space, denoised under the class's name."""
