#!/usr/bin/env bash
# C libraries of all shipped models, for every x86-64 target that runs here: the same bits as bwn with
# the compiled kernels of that target; a C program is clean by valgrind and AddressSanitizer.
#
#   tests/compile/check.sh    PYTHON=...    Needs gcc, binutils and valgrind; 10 minutes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

targets=$("$python" -c 'from bwn.kernels.target.targets import runnable as r; print(*(t.name for t in r()))')
for target in $targets; do
    echo "== $target"
    [[ -n ${BWN_LIBRARIES:-} ]] || "$python" -m bwn.kernels.aot.build "$work/libraries" "$target"
    for model in models/*.bwn; do
        "$python" -m bwn.cli compile "$model" -o "$work/$target" --target "$target"
    done
    BWN_LIBRARIES=${BWN_LIBRARIES:-$work/libraries} BWN_KERNELS=$target "$python" tests/compile/compare_bits.py "$work/$target"
done

echo "== valgrind and AddressSanitizer"
target=${targets#* } # not AVX-512, which valgrind does not know
target=${target%% *}
printf 'P5 50 40 255\n%02000d' 0 >"$work/image.pgm"
"$python" -m bwn.cli compile models/mnist-lenet.bwn -o "$work/net" --name net --target "$target"
build() { gcc -std=c11 -g -O1 -Wall -Wextra -Werror -pedantic "$@" -I"$work/net" examples/c/classify.c "$work/net/libnet.a" -lm -o "$work/classify"; }
build
valgrind -q --error-exitcode=9 --leak-check=full "$work/classify" "$work/image.pgm"
build -fsanitize=address,undefined
"$work/classify" "$work/image.pgm"

if command -v qemu-x86_64 >/dev/null; then
    echo "== x86-64-any, on emulated processors without and with AVX2"
    "$python" -m bwn.cli compile models/mnist-lenet.bwn -o "$work/net" --name net --target x86-64-any
    build
    for cpu in Nehalem Haswell max; do qemu-x86_64 -cpu $cpu "$work/classify" examples/c/digit.pgm 2>/dev/null | grep ': 7 ('; done
fi
echo "== all good"
