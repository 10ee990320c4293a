#!/bin/sh
# Runs the daemon on every photo of a folder once and checks that none is captioned twice and that
# memory does not grow after warm-up.
#
#     scripts/soak.sh DIR [MILLISECONDS_BETWEEN_PHOTOS]
set -eu
cd "$(dirname "$0")/.."
photos=$(cd "${1:?a folder of photos}" && pwd)
CAPTIOND_SOAK_PHOTOS=$photos CAPTIOND_SOAK_INTERVAL_MS=${2:-400} \
    exec cargo test --release --locked --test main -- --ignored --nocapture soak_
