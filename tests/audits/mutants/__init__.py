"""Planted violations: how many of them the static audit finds, and how many harmless look-alikes it leaves alone."""
