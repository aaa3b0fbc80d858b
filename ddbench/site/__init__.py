"""The web page of a registry: one file with everything in it, which asks no network for anything."""
