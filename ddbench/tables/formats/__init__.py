"""Writers of tables: Markdown, LaTeX, HTML, terminal, CSV and JSON."""
