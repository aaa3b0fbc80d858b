"""Readable output: pictures of distilled sets, tables in Markdown, CSV, JSON and on the terminal."""
