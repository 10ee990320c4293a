#!/usr/bin/env bash
# Rebuilds models/lite from the data folder. Every step resumes; remove runs/ to start over.
#
#   runs/reference.sh ../shared/data
#
# CAPTIOND_TRAIN names another build of the trainer, e.g. one with the feature libtorch, and DEVICE where it runs.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: runs/reference.sh DATA}
train=${CAPTIOND_TRAIN:-target/release/captiond-train}
device=${DEVICE:-flex}

[ -x "$train" ] || cargo build --release -p captiond-train
[ -f runs/teacher/train.f16 ] || scripts/teacher.py --data "$data" --out runs/teacher

"$train" --device "$device" text --teacher runs/teacher --out runs/text \
    --n-layer 2 --batch 256 --steps 1400 --lr 2e-3 --warmup-steps 100
"$train" --device "$device" encoder --data "$data" --teacher runs/teacher --text runs/text --out runs/encoder \
    --n-views 3 --steps 600 --batch 512 --dropout-in 0.2 --dropout 0.5

# The trunk sees no sentence that the encoder saw beside a photo.
"$train" --device "$device" decoder --preset capdec --data "$data" --text runs/text --out runs/trunk \
    --exclude-pairs --sources flickr30k flickr8k --noise-cosine 0.45 --steps 1300 --lr 2e-3 --warmup-steps 100

# What ships goes on from there with every sentence, aiming at another caption of the same photo.
"$train" --device "$device" decoder --preset capdec --data "$data" --text runs/text --out runs/decoder \
    --init runs/trunk --target sibling --sources flickr30k flickr8k coco --noise-cosine 0.7 \
    --steps 500 --lr 1.2e-3 --warmup-steps 30

"$train" bundle --text runs/text --encoder runs/encoder --decoder runs/decoder --out models/lite \
    --beam-width 3 --candidates 5 --memory 8000
"$train" eval --bundle models/lite --data "$data"
