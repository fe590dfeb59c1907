"""Audits: the static auditor, which reads code without running it, and the run-time audits, which watch a real run."""
