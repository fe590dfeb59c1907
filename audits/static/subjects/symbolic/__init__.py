"""Runs code on symbols, to see what its operations on tensors compute."""
