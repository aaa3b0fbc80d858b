"""Comparison tables as plain data, made from records alone."""
