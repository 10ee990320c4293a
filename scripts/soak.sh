#!/bin/sh
# Two soaks. With a folder of photos: hours of cameras of every kind with one fault after another, see scripts/soak.py, by
# the installed captiond, or without one by a build of this tree. What it writes goes to FOLDER, from where it resumes.
# With --once: every photo of the folder once; none may be captioned twice, and memory may not grow.
#
#     scripts/soak.sh DIR [MINUTES] [FOLDER]
#     scripts/soak.sh --once DIR [MILLISECONDS_BETWEEN_PHOTOS]
set -eu
cd "$(dirname "$0")/.."
if [ "${1:-}" = --once ]; then
    photos=$(cd "${2:?a folder of photos}" && pwd)
    CAPTIOND_SOAK_PHOTOS=$photos CAPTIOND_SOAK_INTERVAL_MS=${3:-400} \
        exec cargo test --release --locked --test main -- --ignored --nocapture soak_
fi
if [ ! -x /usr/bin/captiond ]; then
    features=""
    ! command -v c++ >/dev/null || features="--features rtsp"
    # The emulator of a USB camera is built with the tests.
    # shellcheck disable=SC2086
    cargo build --release --locked $features --bin captiond --tests
fi
out=${3:-$(mktemp -d)}
status=0
python3 scripts/soak.py --photos "${1:?a folder of photos}" --minutes "${2:-120}" --out "$out" || status=$?
echo "the log and the report are in $out"
exit "$status"
