"""`python -m audits.covariance_paths`: what the K-head, the loss, the training blend and MUSIC really receive."""

from __future__ import annotations

import sys

from audits.runtime.path_audit import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
