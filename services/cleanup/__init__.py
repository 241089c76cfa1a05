"""Cleans up sources: deletes there what libraries have, and never a file that has no verified copy."""
