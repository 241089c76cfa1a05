"""Databases, opened from a URL, with ordered migrations."""
