"""Images with captions: their encoders, the two branches that are trained on them, and how retrieval is scored."""
