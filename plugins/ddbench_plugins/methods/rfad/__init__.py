"""RFAD: kernel ridge regression with random features (Loo et al., NeurIPS 2022)."""
