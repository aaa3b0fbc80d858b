"""One training loop for students and teachers, with the augmentations, losses and schedules of the protocols."""
