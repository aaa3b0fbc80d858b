"""MGD3: samples of a diffusion transformer, each led to a mode of its class's latents."""
