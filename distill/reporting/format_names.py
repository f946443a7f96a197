"""Names and suffixes of this package's output formats, for help texts that import none of them."""

SUFFIXES = {
    "csv": ".csv",
    "html": ".html",
    "json": ".json",
    "markdown": ".md",
    "png": ".png",
    "svg": ".svg",
    "table": ".txt",
}
