"""FRePo: regression on the features of a pool of networks in training (Zhou et al., NeurIPS 2022)."""
