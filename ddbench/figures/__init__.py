"""Pictures: contact sheets, curves, sweeps, t-SNE."""
