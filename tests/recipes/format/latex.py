"""A toy output format: the comparison as a LaTeX table."""

from distill.reporting.compare import RunComparison
from distill.reporting.formats import TextFormat, register_format


@register_format
class Latex(TextFormat):
    """Name and quality of each model."""

    name = "latex"
    suffix = ".tex"

    def render(self, comparison: RunComparison, width: int | None = None) -> str:
        """Return a ``tabular``; ``width`` does not matter."""
        lines = []
        for row in comparison.rows:
            value = row.values.get(comparison.metric or "")
            score = "--" if value is None else f"{value:.3f}"
            lines.append(f"{row.title} & {score} \\\\")
        return "\n".join(["\\begin{tabular}{lr}", *lines, "\\end{tabular}", ""])
