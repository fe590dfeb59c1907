"""``python -m ris_pipeline`` is ``ris``."""

import sys

from ris_pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main())
