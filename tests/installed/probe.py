"""Runs one bwn command in this process, then fails if torch, onnx or onnxruntime was loaded on the way.

python probe.py infer model.bwn images/
"""

from __future__ import annotations

import sys

HEAVY = {"onnx", "onnxruntime", "onnxscript", "torch"}


def main() -> None:
    """Exit code: the command's own; 99 and a line on stderr if a heavy package was loaded."""
    from bwn.cli.main import main as bwn

    sys.argv[0] = "bwn"
    code: object = 0
    try:
        bwn()
    except SystemExit as end:
        code = end.code
    loaded = sorted(HEAVY & sys.modules.keys())
    if loaded:
        print(f"{' '.join(sys.argv)}: loaded {', '.join(loaded)}", file=sys.stderr)
        code = 99
    sys.exit(code)


if __name__ == "__main__":
    main()
