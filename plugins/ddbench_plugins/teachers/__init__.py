"""Teachers: networks trained on the whole training set, from a recipe, a file, a hub, or with ddbench."""
