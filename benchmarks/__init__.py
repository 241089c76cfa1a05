"""Ours and the tools people use today, side by side in one run. Never asserts: it prints what it saw."""
