"""``python -m distill.search``: the command ``distill-search``."""

from distill.cli.search import main

if __name__ == "__main__":
    main()
