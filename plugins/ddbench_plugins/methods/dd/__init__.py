"""DD and SLDD: images on which a few plain steps train a network (Wang et al. 2018; Sucholutsky and Schonlau 2021)."""
