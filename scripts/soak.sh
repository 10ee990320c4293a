#!/bin/sh
# Two soaks. With a folder alone: twenty minutes of cameras of every kind that are killed and revived, see scripts/soak.py.
# With --once: every photo of the folder once; none may be captioned twice, and memory may not grow.
#
#     scripts/soak.sh DIR [MINUTES]
#     scripts/soak.sh --once DIR [MILLISECONDS_BETWEEN_PHOTOS]
set -eu
cd "$(dirname "$0")/.."
if [ "${1:-}" = --once ]; then
    photos=$(cd "${2:?a folder of photos}" && pwd)
    CAPTIOND_SOAK_PHOTOS=$photos CAPTIOND_SOAK_INTERVAL_MS=${3:-400} \
        exec cargo test --release --locked --test main -- --ignored --nocapture soak_
fi
features=""
! command -v c++ >/dev/null || features="--features rtsp"
# The emulator of a USB camera is built with the tests.
# shellcheck disable=SC2086
cargo build --release --locked $features --bin captiond --tests
exec python3 scripts/soak.py --photos "${1:?a folder of photos}" --minutes "${2:-20}"
