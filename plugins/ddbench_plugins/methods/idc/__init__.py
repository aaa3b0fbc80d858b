"""IDC: gradient matching in networks trained on real images, several images in one (Kim et al., ICML 2022)."""
