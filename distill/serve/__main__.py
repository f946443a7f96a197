"""``python -m distill.serve``: the command ``distill-serve``."""

import sys


def main() -> int:
    """Run the command; an entry point, above all rooms."""
    from distill.cli.serve import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
