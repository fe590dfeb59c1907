"""The run-time audits: what a small, real run executed, handed on, moved and returned."""
