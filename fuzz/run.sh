#!/bin/sh
# Runs every fuzz target for a while, each from its corpus, and writes what came of it into docs/fuzz.md.
#
#     fuzz/run.sh [SECONDS] [TARGET...]
#
# Corpora are kept in fuzz/corpus, which git ignores; the first run of a target starts from examples of the tree. Needs
# cargo-fuzz. With a nightly compiler AddressSanitizer watches; a stable one will do (RUSTC_BOOTSTRAP), without it.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-600}
[ $# -eq 0 ] || shift
if rustc +nightly --version >/dev/null 2>&1; then
    fuzz="cargo +nightly fuzz" sanitizer=address
else
    fuzz="cargo fuzz" sanitizer=none
    export RUSTC_BOOTSTRAP=1
fi
targets=${*:-$($fuzz list)}
logs=fuzz/logs
mkdir -p "$logs"

seed() {
    corpus=fuzz/corpus/$1
    [ ! -d "$corpus" ] || return 0
    mkdir -p "$corpus"
    case $1 in
        ask | set | standing | request | job) cp src/mqtt/examples/*.json "$corpus" ;;
        topics) printf 'captiond/porch/ask' >"$corpus/ask"; printf 'homie/5/captiond-1/$description' >"$corpus/homie" ;;
        picture | mjpeg) cp assets/demo/*.jpg "$corpus" ;;
        config) sed -n '/^```toml/,/^```/{/^```/!p}' docs/config.md >"$corpus/reference" ;;
        manifest) cp models/lite/manifest.toml "$corpus" ;;
        onnx_file) cp models/lite/adapter.onnx "$corpus" ;;
        tokenizer) printf '0a dog runs across the lawn' >"$corpus/text"; { printf 1; cat models/lite/tokenizer.json; } >"$corpus/file" ;;
        pixels) for format in 0 1 2 3 4 5 6; do { printf "\\00$format\\0\\0\\0\\010\\0\\006\\0\\0\\0\\0\\0"; head -c 200 /dev/zero; } >"$corpus/$format"; done ;;
        multipart) printf 'multipart/x-mixed-replace; boundary=b\n--b\r\nContent-Length: 3\r\n\r\nabc\r\n--b\r\n\r\nabc\r\n--b--' >"$corpus/stream" ;;
    esac
}

status=0
for target in $targets; do
    seed "$target"
    echo "== $target"
    # A finding is written to fuzz/artifacts, and does not keep the others from running.
    echo "sanitizer: $sanitizer" >"$logs/$target.log"
    $fuzz run --dev -s "$sanitizer" "$target" -- -max_len=16384 -max_total_time="$seconds" -print_final_stats=1 \
        >>"$logs/$target.log" 2>&1 || status=1
    tail -n 3 "$logs/$target.log"
done
python3 fuzz/record.py "$logs" docs/fuzz.md
exit "$status"
