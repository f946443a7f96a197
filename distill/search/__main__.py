"""``python -m distill.search``: the command ``distill-search``."""


def main() -> None:
    """Run the command; an entry point, above all rooms."""
    from distill.cli.search import main as command

    command()


if __name__ == "__main__":
    main()
