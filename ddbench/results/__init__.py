"""Records: their schema, the registry that holds them, published claims."""
