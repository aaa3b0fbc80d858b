"""DD-Ranking: robust scores, with the trainings that only they need."""
