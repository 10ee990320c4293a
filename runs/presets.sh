#!/usr/bin/env bash
# Trains and measures the recipes of docs/results.md: the presets, and the sweep of the noise. Every step resumes.
#
#   runs/presets.sh ../shared/data [SEED...]
#
# The text encoder and the image encoder are those of models/lite. Two runs at a time keep two cores busy.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: runs/presets.sh DATA [SEED...]}
shift
seeds=${*:-1 2 3}
train=${CAPTIOND_TRAIN:-target/release/captiond-train}
lite=models/lite

[ -x "$train" ] || cargo build --release --bins

decoder() {
    "$train" decoder --data "$data" --text "$lite" --exclude-pairs \
        --n-layer 2 --d 128 --d-mlp 384 --batch 128 "$@"
}

# measure RUN GROUP LABEL...: a bundle of the run, its captions of the dev photos and, for the noise, of clean text.
measure() {
    run=$1
    shift
    "$train" bundle --text "$lite" --encoder "$lite" --decoder "runs/$run" --out "runs/bundles/$run" --name "${run%-*}"
    groups=() labels=()
    for place in "$@"; do
        groups+=("${place%%:*}")
        labels+=("${place#*:}")
    done
    "$train" eval --bundle "runs/bundles/$run" --data "$data" --views runs/views \
        --out "runs/results/$run.json" --group "${groups[@]}" --label "${labels[@]}"
    for place in "$@"; do
        [ "${place%%:*}" = noise ] || continue
        "$train" eval --bundle "runs/bundles/$run" --data "$data" --input text \
            --out "runs/results/$run-text.json" --group noise --label "${place#*:}"
    done
}

# The language model that every recipe starts from; its adapter, which no recipe has, is left behind.
decoder --out runs/lm --preset text --adapter linear --prefix-length 2 --noise-cosine 0.33 1.0 \
    --steps 1300 --lr 2e-3 --warmup-steps 100

recipe() {
    decoder --init runs/lm --steps 300 --lr 1.5e-3 --warmup-steps 30 "$@"
}
for seed in $seeds; do
    for preset in text capdec maccap decap viecap captiond; do
        recipe --preset "$preset" --seed "$seed" --out "runs/$preset-$seed" --labels runs/labels.txt
        places=("presets:$preset")
        [ "$preset" = text ] && places+=(noise:1)
        [ "$preset" = capdec ] && places+=(noise:0.45)
        measure "$preset-$seed" "${places[@]}"
    done
    for cosine in 0.7 0.3; do
        recipe --preset capdec --noise-cosine "$cosine" --seed "$seed" --out "runs/noise-$cosine-$seed"
        measure "noise-$cosine-$seed" "noise:$cosine"
    done
done
"$train" report
