"""``python -m distill.models``: the command ``distill-models``."""

import sys

from distill.cli.models import main

if __name__ == "__main__":
    sys.exit(main())
