"""Reads files into the auditor's own syntax tree and binds its names."""
