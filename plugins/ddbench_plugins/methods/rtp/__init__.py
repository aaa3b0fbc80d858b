"""RTP: bases and coefficients instead of images (Deng and Russakovsky, NeurIPS 2022)."""
