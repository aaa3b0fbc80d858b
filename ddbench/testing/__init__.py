"""What plugin authors test with: conformance checks, a tiny data set, tiny models in the formats of large ones."""
