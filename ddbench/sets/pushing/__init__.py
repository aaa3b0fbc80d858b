"""Distilled sets as a repository of the Hugging Face hub: what is in it, its card and metadata, and the way there."""
