"""``python -m distill``: the command ``distill``."""

from distill.cli.distill import main

if __name__ == "__main__":
    main()
