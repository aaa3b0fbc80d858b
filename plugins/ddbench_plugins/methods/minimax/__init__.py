"""Minimax diffusion: a transformer fine-tuned to represent its data and to vary (Gu et al. 2024)."""
