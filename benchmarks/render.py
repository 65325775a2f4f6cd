"""Results of networks.py as Markdown and a plot.

python benchmarks/render.py RESULTS.json ... [--document docs/benchmarks.md] [--plot docs/benchmarks.svg]

Without --document the tables are printed. With it, they replace what stands between the two marks in that file. The
plot is of the first file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from engines import results
from engines.plot import plot
from engines.tables import as_markdown

BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def put(document: str, tables: str) -> str:
    """`document` with `tables` between its marks. Raises ValueError where it has none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def main() -> None:
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
        options.document.write_text(
            put(options.document.read_text(encoding="utf-8"), tables), encoding="utf-8"
        )
    else:
        print(tables)


if __name__ == "__main__":
    main()
