#!/usr/bin/env bash
# Builds the Debian package of this tree, for glibc 2.31 and later.
#
#     scripts/package.sh [amd64|arm64] [FOLDER]
#
# $CAPTIOND_BINARY names an executable to package in the place of one that is built here.
# Wants cargo-deb, and for building cargo-zigbuild with ziglang (both on PyPI); what is not there is installed beneath
# target/. arm64 also wants Rust's library for that target: `rustup target add`, or cross/arm64.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=${1:-amd64}
out=${2:-target/packages}
glibc=2.31
case $arch in
amd64) triple=x86_64-unknown-linux-gnu ;;
arm64) triple=aarch64-unknown-linux-gnu ;;
*) echo "package.sh: $arch: must be amd64 or arm64" >&2 && exit 2 ;;
esac
tools=$PWD/target/package-tools
export PATH=$tools/bin:$tools/venv/bin:$PATH

command -v cargo-deb >/dev/null || cargo install cargo-deb@3.8.0 --locked --root "$tools"
binary=${CAPTIOND_BINARY:-}
if [ -z "$binary" ]; then
    if ! command -v cargo-zigbuild >/dev/null; then
        python3 -m venv "$tools/venv"
        "$tools/venv/bin/pip" install --quiet cargo-zigbuild==0.24.0 ziglang==0.17.1
    fi
    cargo zigbuild --profile dist --locked --features rtsp --target "$triple.$glibc" --bin captiond
    binary=${CARGO_TARGET_DIR:-target}/$triple/dist/captiond
fi

# The package promises this glibc, so an executable that needs a later one is none to package; a package for machines like
# this one states what its executable needs.
variant=""
needed=$(objdump -T "$binary" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1)
if [ "$(printf '%s\n' "$needed" "$glibc" | sort -V | tail -n 1)" != "$glibc" ]; then
    if [ "${CAPTIOND_GLIBC:-}" != host ]; then
        echo "package.sh: $binary needs glibc $needed, the package promises $glibc; \$CAPTIOND_GLIBC=host states $needed" >&2
        exit 1
    fi
    variant="--variant host"
fi

# cargo-deb looks for the executable in cargo's folder of the target.
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$triple/dist" "$out"
cp "$binary" "$stage/$triple/dist/captiond"
# shellcheck disable=SC2086
CARGO_TARGET_DIR=$stage cargo deb --quiet $variant --no-build --no-strip --profile dist --target "$triple" --output "$out"
