#!/usr/bin/env bash
# Counts executed instructions on x86-64 with AVX2 and compares them with
# docs/records/instructions.json, within 2 %.
#
#   tests/counts/x86.sh [--record]      PYTHON=...
#
# Needs valgrind and binutils. Valgrind does not support AVX-512, so numpy and bwn run AVX2 code.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=$(realpath -s "$(command -v "${PYTHON:-python3}")")
command -v valgrind >/dev/null || { echo "Error: no valgrind: apt-get install valgrind" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m bwn.kernels.aot.build "$work" x86-64-avx2
"$python" -c 'from bwn.data.datasets import load_dataset; from PIL import Image; import sys
Image.fromarray(load_dataset("mnist-sample", "test").images[0]).save(sys.argv[1])' "$work/digit.png"
counted() { # OUT ARGUMENT...
    local out=$1
    shift
    env -i PATH="$PATH" HOME="$work" BWN_LIBRARIES="$work" BWN_KERNELS=x86-64-avx2 OPENBLAS_NUM_THREADS=1 \
        PYTHONHASHSEED=0 valgrind -q --tool=callgrind --callgrind-out-file="$out" "$python" tests/counts/count.py "$@" \
        2>"$work/messages" || { cat "$work/messages" >&2; exit 1; }
}
counted "$work/warm" first models/mnist-lenet.bwn "$work/digit.png" # writes Python's bytecode
counted "$work/first" first models/mnist-lenet.bwn "$work/digit.png" &
counted "$work/once" once
wait $!
BWN_LIBRARIES="$work" BWN_KERNELS=x86-64-avx2 "$python" tests/counts/count.py callgrind "$work/once" "$work/first" \
    "$work/x86-64-avx2.json"
"$python" tests/counts/count.py gate docs/records/instructions.json "$work/x86-64-avx2.json" "$@"
