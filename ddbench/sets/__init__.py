"""Distilled sets on disk: written, read, and taken over from others."""
