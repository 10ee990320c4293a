#!/bin/sh
# Builds the daemon twice, in two folders, and fails when the bytes differ. Takes as long as two builds from nothing.
#
#     scripts/reproducible.sh [PROFILE] [FEATURES]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
profile=${1:-dist}
features=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
registry=${CARGO_HOME:-$HOME/.cargo}/registry
for name in one another; do
    mkdir "$work/$name"
    git -C "$root" archive HEAD | tar -x -C "$work/$name"
    # Paths end up in panics and debug information; C++ is told as well.
    (cd "$work/$name" &&
        RUSTFLAGS="--remap-path-prefix=$work/$name=/captiond --remap-path-prefix=$registry=/registry" \
        CFLAGS="-ffile-prefix-map=$work/$name=/captiond -ffile-prefix-map=$registry=/registry" \
        CXXFLAGS="-ffile-prefix-map=$work/$name=/captiond -ffile-prefix-map=$registry=/registry" \
        SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct) \
            cargo build --profile "$profile" --locked ${features:+--features "$features"} --bin captiond)
    sha256sum "$work/$name/target/$profile/captiond" | cut -d' ' -f1 >"$work/$name.sha256"
    echo "$(cat "$work/$name.sha256")  captiond, built in folder $name"
    # Two targets would need twice the disk.
    rm -rf "$work/$name/target"
done
if cmp -s "$work/one.sha256" "$work/another.sha256"; then
    echo "the same bytes"
else
    echo "the two builds differ" >&2
    exit 1
fi
