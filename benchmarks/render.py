"""Results of compare_networks.py as Markdown and a plot.

python benchmarks/render.py RESULTS.json ... [--document docs/benchmarks.md]
                                             [--plot docs/benchmarks.svg]

Without --document the tables are printed. With it, they replace the text between the two marks in
that file. The plot is of the first file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from comparison import results
from comparison.plot import plot
from comparison.tables import as_markdown

BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def insert(document: str, tables: str) -> str:
    """The document with tables between its marks. Raises ValueError where it has none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def main() -> None:
    """Render."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    reports = [results.read(path) for path in options.results]
    tables = "\n\n".join(map(as_markdown, reports))
    if options.plot:
        options.plot.write_text(plot(reports[0]), encoding="utf-8")
    if options.document:
        text = options.document.read_text(encoding="utf-8")
        options.document.write_text(insert(text, tables), encoding="utf-8")
    else:
        print(tables)


if __name__ == "__main__":
    main()
