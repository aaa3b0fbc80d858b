"""DC and DSA: gradient matching (Zhao et al., ICLR 2021; Zhao and Bilen, ICML 2021)."""
