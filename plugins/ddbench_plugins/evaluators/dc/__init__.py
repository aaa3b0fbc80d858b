"""The protocol of DC, DSA, DM and MTT."""
