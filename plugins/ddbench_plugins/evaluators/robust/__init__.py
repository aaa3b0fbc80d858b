"""What students of a protocol are like beyond their accuracy: calibration, worst class, corruptions, attacks."""
