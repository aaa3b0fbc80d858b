"""Images and labels made for kernel ridge regression: KIP and Label Solve (Nguyen et al., ICLR 2021)."""
