"""MTT: images on which training follows the path of training on real ones (Cazenavette et al., CVPR 2022)."""
