#!/usr/bin/env bash
# Counts the instructions that bwn and its peers execute for one inference on emulated ARM cores:
# batch 1, one thread, the same networks, scores compared first. docs/arm.md has the table.
#
#   benchmarks/arm_peers/count.sh [--short | --record] [WHEEL]     PYTHON=... NETWORKS=... CORES=...
#
# --short: MLP and VGG on a Cortex-A76. --record writes docs/records/arm-peers.json.
# Builds the wheel for 64-bit ARM unless a WHEEL of this source is given. Counts are kept in
# build/arm-peers/; those of the peers are used again. Needs, on Debian:
# apt-get install qemu-user mmdebstrap gcc binutils-aarch64-linux-gnu llvm-22
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

networks=${NETWORKS:-mlp vgg vgg-sign resnet18 mobilenetv2}
cores=${CORES:-cortex-a53 cortex-a72 cortex-a76}
record= wheel=
for argument; do
    case $argument in
        --short) networks="mlp vgg" cores=cortex-a76 ;;
        --record) record=$argument ;;
        *) wheel=$(realpath "$argument") ;;
    esac
done
. tests/arm/emulation.sh

make_wheel
out=build/arm-peers
mkdir -p "$out" "$work/needs"
"$python" -c 'from importlib.metadata import version
print(*(f"{name}=={version(name)}" for name in ("onnxruntime", "ncnn", "ai-edge-litert", "numpy")), sep="\n")' >"$work/needs/peers"
if ! cmp -s "$work/needs/peers" "$cache/site-peers/needs"; then
    say "aarch64 wheels: $(tr '\n' ' ' <"$work/needs/peers")"
    rm -rf "$cache/site-peers" "$out"/cortex-*
    for_arm "$cache/site-peers" -r "$work/needs/peers"
    cp "$work/needs/peers" "$cache/site-peers/needs"
fi
for_arm "$work/bwn" "$wheel"
gcc -O2 -shared -fPIC -o "$work/count.so" tests/counts/count.c

for network in mlp $networks; do
    [[ -f $out/files/$network/network.json ]] && continue
    say "files of $network"
    OMP_NUM_THREADS=1 "$python" benchmarks/arm_peers/write_files.py "$out/files/$network" "$network"
done

count() { # CORE NETWORK ENGINE KIND
    local base=$out/$1/$2.$3.$4 site=$cache/site-peers
    [[ $3 == bwn ]] && site=$work/bwn
    [[ $3 != bwn && -f $base.json ]] && return
    mkdir -p "$out/$1"
    rm -f "$base".*
    env -i HOME="$work" PATH="$PATH" PYTHONPATH="$site" PYTHONHASHSEED=0 PYTHONPYCACHEPREFIX="$cache/pyc" \
        BWN_CACHE_DIR="$work/compiled" timeout 3000 qemu-aarch64 -plugin "$work/count.so,out=$base.counts" -cpu "$1" \
        -L "$cache/root-$1" "$cache/root-$1/usr/bin/$version" benchmarks/arm_peers/count_engine.py \
        "$3" "$4" "$out/files/$2" "$base.counts" "$base.json" >"$base.log" 2>&1 ||
        { echo "$1, $2, $3 $4: exit $?: $(tail -n 1 "$base.log")"; return; }
    echo "$3 $4: $(cat "$base.json")"
}
count cortex-a76 mlp bwn float32 # leaves compiled modules
for network in $networks; do
    for core in $cores; do
        say "$network on $core"
        low=int8
        [[ $network == vgg-sign ]] && low=binary
        for kind in float32 $low; do count "$core" "$network" bwn "$kind"; done
        for engine in onnxruntime ncnn litert; do count "$core" "$network" $engine float32; done
        [[ $core != cortex-a76 || $network == vgg-sign ]] || # whose signs are made of numbers up to 1e30
            count "$core" "$network" ncnn float16
        count "$core" "$network" ncnn int8
        [[ $network != vgg-sign ]] || continue
        count "$core" "$network" litert int8
        for kind in int8 int8-signed; do count "$core" "$network" onnxruntime $kind; done
    done
done
"$python" benchmarks/arm_peers/report.py "$out" ${record:+docs/records/arm-peers.json}
