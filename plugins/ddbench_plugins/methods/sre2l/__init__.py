"""SRe2L: images recovered from a teacher's batch-norm statistics (Yin et al., NeurIPS 2023)."""
