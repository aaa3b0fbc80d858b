"""RDED: realistic crops, chosen by a teacher and stitched together (Sun et al., CVPR 2024)."""
