#!/usr/bin/env bash
# What a maintainer does before a release, from a clean clone of what is committed: versions agree,
# sdist and wheel are built and compared, the wheel is tried on every Python here, a visitor's first
# minute, the demo, the site with its links, and the steps of the Dockerfile. `make wheels`, `make
# arm` and .ci/run come on top. Some 20 minutes; BWN_TARGETS=x86-64-avx2 builds one library of kernels
# for the Dockerfile in place of all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
started=$SECONDS
say() { echo "== $* ($((SECONDS - started)) s)"; }

[[ -z $(git status --porcelain) ]] || echo "note: what is not committed is not checked"
git clone -q . "$work/clone"
cd "$work/clone"

say "versions"
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' bwn/_text.py)
grep -q "^## \[$version\]" CHANGELOG.md || { echo "CHANGELOG.md has no section [$version]" >&2; exit 1; }
grep -qx "version: $version" CITATION.cff || { echo "CITATION.cff has another version than $version" >&2; exit 1; }

say "sdist and wheel of $version"
make --no-print-directory dist VENV="$work/venv" PYTHON="$python"
wheel=$(echo dist/bwn-"$version"-*-any.whl)

tried=0
for minor in 11 12 13; do
    for candidate in "python3.$minor" "$HOME"/.pyenv/versions/3."$minor".*/bin/python; do
        "$candidate" -c 'import venv' 2>/dev/null || continue
        say "the wheel on $("$candidate" --version)"
        "$work/venv/bin/python" tests/installed/check_wheel.py --python "$candidate" --generic "$wheel"
        tried=$((tried + 1))
        break
    done
done
((tried == 3)) || echo "note: only $tried of Python 3.11, 3.12 and 3.13 are here"

say "a visitor's first minute: pip install, then ten digits, without a cache of kernels"
began=$SECONDS
"$python" -m venv "$work/visitor"
"$work/visitor/bin/python" -m pip install -qq --disable-pip-version-check .
BWN_CACHE_DIR="$work/cache" "$work/visitor/bin/bwn" infer models/mnist-mlp.bwn examples/digits
echo "$((SECONDS - began)) s"
! "$work/visitor/bin/python" -c 'import torch' 2>/dev/null || { echo "torch was installed" >&2; exit 1; }

say "the demo"
make --no-print-directory demo VENV="$work/venv" PYTHON="$python"

say "the site"
make --no-print-directory docs pages VENV="$work/venv" PYTHON="$python"

say "the Dockerfile"
# shellcheck disable=SC2086
"$work/venv/bin/python" tests/installed/run_dockerfile.py ${BWN_TARGETS:+--targets $BWN_TARGETS}
say "all good"
