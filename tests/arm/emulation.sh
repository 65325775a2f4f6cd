# Sourced by check.sh, and by benchmarks/arm_peers/count.sh, in the root of the repository: a Debian
# for 64-bit ARM to emulate cores in, what pip installs there, and the wheel of this source. Sets `python`,
# `cache`, `work` (removed at the end), `version` (of Python there); needs `wheel` set, empty or to a path.
# PYTHON=... BWN_ARM_CACHE=... BWN_APT_SOURCES=...; on Debian:
# apt-get install qemu-user mmdebstrap gcc binutils-aarch64-linux-gnu
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
trap 'wait; rm -rf "$work"' EXIT # background jobs still write there

say() { echo "== $* ($((SECONDS - started)) s)"; }

for tool in qemu-aarch64 mmdebstrap gcc aarch64-linux-gnu-ld; do
    command -v "$tool" >/dev/null || {
        echo "Error: no $tool: apt-get install qemu-user mmdebstrap gcc binutils-aarch64-linux-gnu" >&2
        exit 1
    }
done

# Once: an arm64 userland, with a copy (of hard links) for each core. LLVM reads the core from
# /proc/cpuinfo; qemu -L shows the guest these files instead of the host's. As on a Raspberry Pi, the
# A53 and the A72 have no AES.
root() { # CORE PART FEATURES
    cp -al "$cache/root.new" "$cache/root-$1.new"
    mkdir -p "$cache/root-$1.new/proc"
    printf '%s\n' "processor : 0" "Features : $3" "CPU implementer : 0x41" "CPU architecture: 8" "CPU variant : 0x0" \
        "CPU part : $2" "CPU revision : 4" >"$cache/root-$1.new/proc/cpuinfo"
    rm -rf "$cache/root-$1"
    mv "$cache/root-$1.new" "$cache/root-$1"
}
if [[ ! -d $cache/root-cortex-a76 || ! -d $cache/root-cortex-a72 ]]; then
    say "arm64 userland from $sources"
    rm -rf "$cache"/root*
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mmdebstrap --quiet --variant=extract --architectures=arm64 --include=python3,libstdc++6,libgomp1,libatomic1 \
        "$release" "$cache/root.new" "$sources"
    [[ -e $cache/root.new/lib ]] || ln -s usr/lib "$cache/root.new/lib"
    root cortex-a53 0xd03 "fp asimd evtstrm crc32 cpuid"
    root cortex-a72 0xd08 "fp asimd evtstrm crc32 cpuid"
    root cortex-a76 0xd0b "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
    rm -rf "$cache/root.new"
fi
l1() { # CORE KIB: its data cache, by which bwn chooses kernels
    local folder=$cache/root-$1/sys/devices/system/cpu/cpu0/cache/index0
    mkdir -p "$folder"
    echo "$2K" >"$folder/size"
}
l1 cortex-a53 32
l1 cortex-a72 32
l1 cortex-a76 64
version=$(basename "$(readlink "$cache/root-cortex-a53/usr/bin/python3")")
platforms=()
for glibc in manylinux_2_36 manylinux_2_35 manylinux_2_34 manylinux_2_31 manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do platforms+=(--platform "${glibc}_aarch64"); done
for_arm() { # FOLDER REQUIREMENT...: what pip on such a board would install
    local folder=$1
    shift
    "$python" -m pip install -qq --disable-pip-version-check --target "$folder" --only-binary=:all: \
        --implementation cp --python-version "${version#python}" "${platforms[@]}" "$@"
}

make_wheel() { # sets `wheel` unless it is set
    [[ -z $wheel ]] || return 0
    say "the wheel for 64-bit ARM"
    "$python" -m build --wheel --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
    "$python" -m bwn.kernels.aot.build "$work/libraries" aarch64 aarch64-dotprod
    "$python" -m bwn.kernels.aot.wheels "$work"/dist/bwn-*-any.whl "$work/libraries" "$work/dist"
    wheel=$(echo "$work"/dist/bwn-*aarch64.whl)
}
