"""Coresets by what a training shows of each image: how often it was forgotten, its early error, its margin."""
