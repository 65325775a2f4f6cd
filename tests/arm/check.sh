#!/usr/bin/env bash
# Runs bwn as on a Raspberry Pi, emulated: kernels, plans and commands give the right answers on a Cortex-A53 and a
# Cortex-A76 and use no instruction that those lack. docs/arm.md says what that proves and what not.
#
#   tests/arm/check.sh           PYTHON=... BWN_ARM_CACHE=... BWN_APT_SOURCES=...
#
# Needs, on Debian: apt-get install qemu-user mmdebstrap gcc
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=${PYTHON:-python3}
cache=${BWN_ARM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bwn-arm}
sources=${BWN_APT_SOURCES:-}
if [[ -z $sources ]]; then
    sources=/etc/apt/sources.list.d/debian.sources
    [[ -f $sources ]] || sources=/etc/apt/sources.list
fi
started=$SECONDS
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
work=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf "$work"' EXIT

say() { echo "== $* ($((SECONDS - started)) s)"; }

for tool in qemu-aarch64 mmdebstrap gcc; do
    command -v "$tool" >/dev/null || { echo "Error: no $tool: apt-get install qemu-user mmdebstrap gcc" >&2; exit 1; }
done

# Once: an arm64 userland, one copy (of hard links) a core. LLVM asks /proc/cpuinfo which core it is on; qemu -L shows
# the guest these in place of the host's. As on a Pi, the A53 has no AES.
root() { # CORE PART FEATURES
    cp -al "$cache/root.new" "$cache/root-$1.new"
    mkdir -p "$cache/root-$1.new/proc"
    printf '%s\n' "processor : 0" "Features : $3" "CPU implementer : 0x41" "CPU architecture: 8" "CPU variant : 0x0" \
        "CPU part : $2" "CPU revision : 4" >"$cache/root-$1.new/proc/cpuinfo"
    rm -rf "$cache/root-$1"
    mv "$cache/root-$1.new" "$cache/root-$1"
}
if [[ ! -d $cache/root-cortex-a76 ]]; then
    say "arm64 userland from $sources"
    rm -rf "$cache"/root*
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mmdebstrap --quiet --variant=extract --architectures=arm64 --include=python3,libstdc++6,libgomp1,libatomic1 \
        "$release" "$cache/root.new" "$sources"
    [[ -e $cache/root.new/lib ]] || ln -s usr/lib "$cache/root.new/lib"
    root cortex-a53 0xd03 "fp asimd evtstrm crc32 cpuid"
    root cortex-a76 0xd0b "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
    rm -rf "$cache/root.new"
fi
version=$(basename "$(readlink "$cache/root-cortex-a53/usr/bin/python3")")

# Once, and again when the dependencies change: their wheels for aarch64.
"$python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
    >"$work/needs"
printf '%s\n' pytest hypothesis >>"$work/needs"
if ! cmp -s "$work/needs" "$cache/site/needs"; then
    say "aarch64 wheels"
    rm -rf "$cache/site"
    platforms=()
    for glibc in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do platforms+=(--platform "${glibc}_aarch64"); done
    "$python" -m pip install -qq --disable-pip-version-check --target "$cache/site" --only-binary=:all: \
        --implementation cp --python-version "${version#python}" "${platforms[@]}" -r "$work/needs"
    cp "$work/needs" "$cache/site/needs"
fi

say "this checkout, installed"
mkdir "$work/tree"
cp -r pyproject.toml README.md LICENSE NOTICE bwn kernels cli "$work/tree"
"$python" -m pip install -qq --disable-pip-version-check --no-deps --target "$work/code" "$work/tree"
cp -r tests pyproject.toml "$work"
gcc -O2 -shared -fPIC -o "$work/count.so" tests/arm/count.c

emulate() { # CORE [QEMU OPTION]... -- ARGUMENT OF PYTHON...
    local core=$1 options=()
    shift
    while [[ $1 != -- ]]; do options+=("$1"); shift; done
    shift
    env -i -C "$work" HOME="$work" PATH="$PATH" PYTHONPATH="$cache/site:$work/code" OPENBLAS_NUM_THREADS=1 \
        BWN_CACHE_DIR="$work/compiled" qemu-aarch64 "${options[@]}" -cpu "$core" -L "$cache/root-$core" \
        "$cache/root-$core/usr/bin/$version" "$@"
}
tests() { # CORE FILE...
    local core=$1
    shift
    emulate "$core" -- -c "from bwn.kernels import cpu; assert cpu.name() == '$core', cpu.name()"
    emulate "$core" -- -m pytest -c "$work/pyproject.toml" -p no:cacheprovider --basetemp "$work/temp" "${@/#/tests/}"
}

say "cortex-a53: vectors, every product, plans, commands"
tests cortex-a53 kernels/test_vectors.py kernels/test_single.py kernels/test_inlane.py kernels/test_every_product.py \
    bwn/test_plan.py cli/test_infer.py cli/test_inspect.py
say "cortex-a76: vectors and every product"
tests cortex-a76 kernels/test_vectors.py kernels/test_single.py kernels/test_inlane.py kernels/test_every_product.py

say "commands as a user starts them"
emulate cortex-a53 -- -c 'import sys; sys.path.insert(0, "tests/installed"); import pathlib, smoke
smoke.make_model(pathlib.Path("model.bwn")); smoke.make_images(pathlib.Path("digits"))'
for core in cortex-a53 cortex-a76; do
    emulate $core -- -m bwn.cli infer model.bwn digits
    emulate $core -- -m bwn.cli bench model.bwn --seconds 0.01 --threads 1 >"$work/bench" # its times mean nothing here
done
emulate cortex-a53 -- -m bwn.cli inspect model.bwn >"$work/inspect"

say "executed instructions"
for core in cortex-a53 cortex-a76; do
    emulate $core -plugin "$work/count.so,out=$work/counts" -- tests/arm/count.py "$work/counts"
done
say "all good"
