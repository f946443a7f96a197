"""``python -m distill.report``: the command ``distill-report``."""

from distill.cli.report import main

if __name__ == "__main__":
    main()
