#!/usr/bin/env bash
# Runs bwn in an emulated Raspberry Pi. Checks that the wheel for 64-bit ARM installs without numba,
# that its kernels give the same bits as on x86, that commands work, and that no instruction is used
# that a Cortex-A53, A72 or A76 lacks. Then checks some kernels compiled by numba on the board.
# docs/arm.md says what this proves and what it does not.
#
#   tests/arm/check.sh [--short | --counts | --c-libraries] [--record] [WHEEL]    PYTHON=... BWN_ARM_CACHE=... BWN_APT_SOURCES=...
#
# Builds the wheel for 64-bit ARM unless a WHEEL of this source is given.
# --short checks the results of the library and nothing else: golden digests, networks, random networks
# between forbidden pages; a few minutes. --counts only counts instructions. --c-libraries only compares
# the bits of the C libraries of all shipped models with bwn's, on 1,000 inputs each; 40 minutes.
# --record replaces the counts in docs/records/instructions.json. Needs, on Debian:
# apt-get install qemu-user mmdebstrap gcc binutils-aarch64-linux-gnu
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

form=all record= wheel=
for argument; do
    case $argument in
        --short | --counts | --c-libraries) form=${argument#--} ;;
        --record) record=$argument ;;
        *) wheel=$(realpath "$argument") ;;
    esac
done
. tests/arm/emulation.sh

make_wheel
mkdir "$work/needs" "$work/code"
"$python" - "$wheel" >"$work/needs/board" <<'END'
import sys
from importlib.metadata import PathDistribution
from zipfile import Path
(info,) = (path for path in Path(sys.argv[1]).iterdir() if path.name.endswith(".dist-info"))
print(*(line for line in PathDistribution(info).requires or () if "extra ==" not in line), sep="\n")
END
printf '%s\n' pytest hypothesis >"$work/needs/testing"
"$python" -c 'import numba, llvmlite; print(f"numba=={numba.__version__}\nllvmlite=={llvmlite.__version__}")' >"$work/needs/jit"
parts=(board testing)
[[ $form != all ]] || parts+=(jit)
for part in "${parts[@]}"; do # each once, and again when its requirements change
    if ! cmp -s "$work/needs/$part" "$cache/site-$part/needs"; then
        say "aarch64 wheels: $(tr '\n' ' ' <"$work/needs/$part")"
        rm -rf "$cache/site-$part"
        deep=(--no-deps)
        [[ $part == testing ]] && deep=()
        for_arm "$cache/site-$part" "${deep[@]}" -r "$work/needs/$part"
        cp "$work/needs/$part" "$cache/site-$part/needs"
    fi
done
for_arm "$work/code" --no-deps "$wheel"
ln -s "$PWD/models" "$work/models"
cp -r tests pyproject.toml "$work"
gcc -O2 -shared -fPIC -o "$work/count.so" tests/counts/count.c

emulate() { # CORE [QEMU OPTION]... -- ARGUMENT OF PYTHON...
    local core=$1 options=()
    shift
    while [[ $1 != -- ]]; do options+=("$1"); shift; done
    shift
    env -i -C "$work" HOME="$work" PATH="$PATH" PYTHONPATH="$work/code:$cache/site-board${more:+:$more}" \
        OPENBLAS_NUM_THREADS=1 PYTHONHASHSEED=0 PYTHONPYCACHEPREFIX="$work/pyc" BWN_KERNELS="${kernels:-}" \
        BWN_CACHE_DIR="$work/compiled" qemu-aarch64 "${options[@]}" -cpu "$core" -L "$cache/root-$core" \
        "$cache/root-$core/usr/bin/$version" "$@"
}
tests() { # CORE FILE... [-k NAME]
    local core=$1 files=()
    shift
    while (($#)) && [[ $1 != -k ]]; do files+=("tests/$1"); shift; done
    more="$cache/site-testing${more:+:$more}" emulate "$core" -- -m pytest -c "$work/pyproject.toml" -p no:cacheprovider \
        --basetemp "$work/temp-$core" --deselect tests/kernels/test_copy.py::test_nothing_past_the_last_element_is_read \
        "${files[@]}" "$@" # the deselected test starts a process, which qemu-user cannot
}

say "installed without a compiler"
emulate cortex-a53 -- -c 'import importlib.util as i; assert not any(map(i.find_spec, ("numba", "llvmlite", "torch", "onnx")))'
for pair in cortex-a53:aarch64 cortex-a72:aarch64 cortex-a76:aarch64-dotprod; do
    emulate "${pair%:*}" -- -m bwn.cli doctor | grep "^kernels  *library ${pair#*:}, for"
done

if [[ $form == short ]]; then
    say "library, the short form: digests, networks, random networks"
    one() { # CORE
        tests "$1" kernels/test_golden.py tools/test_golden_networks.py
        more="$cache/site-testing" emulate "$1" -- -c 'import os, runpy; os.environ["BWN_COUNT"] = "100"
runpy.run_path("tests/robustness/guarded_networks.py", run_name="__main__")' | tail -n 1
    }
    one cortex-a53 &
    one cortex-a76
    wait $!
    say "all good, the short form"
    exit
fi

say "a model and images"
emulate cortex-a53 -- -c 'import sys; sys.path.insert(0, "tests/installed"); import pathlib, smoke
smoke.make_model(pathlib.Path("model.bwn")); smoke.make_images(pathlib.Path("digits"))'
checks() {
    say "commands as a user starts them"
    for core in cortex-a53 cortex-a72 cortex-a76; do
        emulate $core -- -m bwn.cli infer models/mnist-lenet.bwn digits
        emulate $core -- -m bwn.cli evaluate models/mnist-mlp.bwn --data mnist-sample --samples 200 --threads 1 | tail -n 1
        emulate $core -- -m bwn.cli bench model.bwn --seconds 0.01 --threads 1 >"$work/bench" # its times mean nothing under emulation
    done

    say "library: every product, packed signs, the same bits as on x86"
    local every
    every=(kernels/test_golden.py kernels/test_every_gemm.py kernels/test_xnor.py kernels/test_pooling.py kernels/test_copy.py)
    tests cortex-a53 "${every[@]}" tools/test_golden_networks.py plan/test_planner.py plan/test_gemm_plans.py \
        cli/test_infer.py &
    tests cortex-a76 "${every[@]}" tools/test_golden_networks.py
    tests cortex-a72 kernels/test_golden.py tools/test_golden_networks.py
    wait $!

    c_libraries 200
}
c_libraries() { # COUNT; the A72, whose code is the A53's, in the long form only
    say "C libraries of the shipped models: the same bits"
    local model target
    for target in aarch64 aarch64-dotprod; do
        for model in models/*.bwn; do "$python" -m bwn.cli compile "$model" -o "$work/c-$target" --target "$target" >/dev/null; done
    done
    compare_bits cortex-a53 aarch64 "$1" &
    compare_bits cortex-a76 aarch64-dotprod "$1"
    [[ $form != c-libraries ]] || compare_bits cortex-a72 aarch64 "$1"
    wait $!
}
compare_bits() { # CORE TARGET COUNT
    more="$cache/site-testing" emulate "$1" -- tests/compile/compare_bits.py "c-$2" "$3"
}
if [[ $form == c-libraries ]]; then
    c_libraries 1000
    say "all good, the C libraries"
    exit
fi
[[ $form == counts ]] || checks

say "executed instructions"
counts() { # CORE
    emulate "$1" -plugin "$work/count.so,out=$work/counts-$1" -- tests/counts/count.py qemu "$work/counts-$1" "$work/$1.json" \
        >"$work/$1.table"
    local first=(tests/counts/count.py first models/mnist-lenet.bwn digits/digit-0.png)
    emulate "$1" -- "${first[@]}" # leaves compiled modules
    emulate "$1" -plugin "$work/count.so,out=$work/first-$1" -- "${first[@]}"
    "$python" - "$work/$1.json" "$work/first-$1" <<'END' >>"$work/$1.table"
import json, sys
from pathlib import Path
report, first = map(Path, sys.argv[1:])
found = json.loads(report.read_text()) | {"start to first result": {"mnist-lenet": int(first.read_text().split()[-1])}}
report.write_text(json.dumps(found))
print(f"{'start to first result':30} {found['start to first result']['mnist-lenet'] / 1e6:8.3f} M")
END
}
counts cortex-a53 &
counts cortex-a76
wait $!
for core in cortex-a53 cortex-a76; do echo "$core"; cat "$work/$core.table"; done
"$python" tests/counts/count.py gate docs/records/instructions.json "$work"/cortex-a53.json "$work"/cortex-a76.json $record
[[ $form == all ]] || exit 0

say "numba on the board: the same answers, the same bits"
jit() { # CORE...
    local core more=$cache/site-jit kernels=jit
    for core; do
        emulate "$core" -- -c "from bwn.kernels.target import cpu; assert cpu.name() == '$core', cpu.name()"
        emulate "$core" -- -m bwn.cli infer models/mnist-mlp.bwn digits --json >"$work/jit-$core"
        tests "$core" kernels/test_golden.py -k f32_b1_f32_planes_lookup
    done
}
jit cortex-a53 &
jit cortex-a76 cortex-a72
wait $!
for core in cortex-a53 cortex-a72 cortex-a76; do
    emulate $core -- -m bwn.cli infer models/mnist-mlp.bwn digits --json | cmp - "$work/jit-$core"
done
say "all good"
