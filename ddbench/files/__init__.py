"""Reading and writing files with care: whole or not at all, locked, checked, explained."""
