"""The protocol of RFAD's finite networks (Loo et al., NeurIPS 2022)."""
