"""CAFE: aligning features layer by layer (Wang et al., CVPR 2022)."""
