"""The protocol of FRePo (Zhou et al., NeurIPS 2022)."""
