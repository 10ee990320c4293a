#!/usr/bin/env bash
# Runs the tests of the engine's kernels under AddressSanitizer, and with a page that cannot be read behind their rows.
#
#     scripts/sanitize.sh            the kernels alone, for every instruction set of this machine: a minute
#     scripts/sanitize.sh --engine   the layers as well, and tract compiled anew with the sanitizer
#
# Wants a nightly compiler ($CAPTIOND_NIGHTLY, else the one that rustup calls `nightly`). The sanitizer does not see loads by
# assembly; the page does. Miri has few of these instructions and is not used.
set -euo pipefail
cd "$(dirname "$0")/.."

nightly=${CAPTIOND_NIGHTLY:-nightly}
triple=$(rustc "+$nightly" -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$PWD/target/sanitize
log=$(mktemp)
trap 'rm -f "$log"' EXIT

step() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'sanitize: %s\n' "$*" >&2
    exit 1
}
kernels() { cargo "+$nightly" test --manifest-path scripts/kernels/Cargo.toml --target "$triple" --lib "$@"; }
# With the sanitizer, a test that must be ended by what the second argument says.
ends() {
    if kernels -- --ignored --exact "guard::$1" >"$log" 2>&1; then
        fail "$1 was not noticed"
    fi
    grep -q "$2" "$log" || fail "$1 ended otherwise: $(tail -n 5 "$log")"
}

export RUSTFLAGS="-Zsanitizer=address"
step "a load beyond the end is noticed"
ends a_byte_beyond_the_end_is_read heap-buffer-overflow
ends a_byte_of_the_page_behind_is_read SEGV

step "kernels, without and with optimization"
kernels -- --nocapture
kernels --release -- --nocapture

if [ "${1:-}" = --engine ]; then
    step "quantized layers"
    cargo "+$nightly" test --release --locked --target "$triple" -p captiond-engine --lib -- kernels quantized floats
fi
