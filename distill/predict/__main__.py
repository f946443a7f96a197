"""``python -m distill.predict``: the command ``distill-predict``."""

import sys


def main() -> int:
    """Run the command; an entry point, above all rooms."""
    from distill.cli.predict import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
