"""``python -m distill.export``: the command ``distill-export``."""

import sys


def main() -> int:
    """Run the command; an entry point, above all rooms."""
    from distill.cli.export import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
