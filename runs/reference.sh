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

[ -x "$train" ] || cargo build --release --bins
[ -f runs/teacher/train.f16 ] || scripts/teacher.py --data "$data" --out runs/teacher

"$train" --device "$device" text --teacher runs/teacher --out runs/text \
    --n-layer 2 --batch 256 --steps 1400 --lr 2e-3 --warmup-steps 100
"$train" --device "$device" encoder --data "$data" --teacher runs/teacher --text runs/text --out runs/encoder \
    --n-views 3 --steps 600 --batch 512 --d-hidden 2048 --dropout-in 0.3 --dropout 0.6
# Its graph with other weights: the last stage of the backbone is tuned, behind which the head is trained anew.
[ -f runs/tuned/image_encoder.onnx ] || scripts/encoder.py --data "$data" --text runs/text \
    --base runs/encoder/image_encoder.onnx --out runs/tuned
# A second backbone beside it: the embedding is the normed sum of both.
[ -f runs/two/image_encoder.onnx ] || scripts/second_backbone.py --data "$data" --text runs/text \
    --base runs/tuned/image_encoder.onnx --out runs/two

decoder() {
    "$train" --device "$device" decoder --preset captiond --data "$data" --text runs/text "$@"
}
# The trunk sees no sentence that the encoder saw beside a photo, nor do the two runs that go on from it, aiming at
# another caption of the same photo.
decoder --out runs/trunk --exclude-pairs --target own --sources flickr30k flickr8k --noise-cosine 0.45 \
    --steps 1300 --lr 2e-3 --warmup-steps 100
decoder --out runs/siblings --init runs/trunk --exclude-pairs --sources flickr30k flickr8k coco \
    --noise-cosine 0.7 --steps 4000 --stop-at 1500 --lr 1.5e-3 --warmup-steps 100
decoder --out runs/cooled --init runs/siblings --exclude-pairs --sources flickr30k flickr8k coco \
    --noise-cosine 0.7 --steps 1000 --lr 1.2e-3 --warmup-steps 20

# What ships goes on with every Flickr sentence.
decoder --out runs/decoder --init runs/cooled --sources flickr30k flickr8k \
    --noise-cosine 0.7 --steps 900 --lr 1e-3 --warmup-steps 20

# The same decoder answers questions, made from the same sentences by rules.
decoder --out runs/answers --init runs/decoder --sources flickr30k flickr8k --noise-cosine 0.7 \
    --questions 6000 --steps 450 --lr 6e-4 --warmup-steps 20
# Images lie nearer to their captions than the noise so far allows for.
decoder --out runs/quiet --init runs/answers --sources flickr30k flickr8k --noise-cosine 0.8 \
    --questions 6000 --steps 500 --lr 6e-4 --warmup-steps 20

# The memory knows more of the world than the decoder's last sentences do. No step: this only embeds them.
decoder --out runs/memory --init runs/cooled --sources flickr30k flickr8k coco --steps 0

bundle() {
    "$train" bundle --text runs/text --encoder runs/two --decoder runs/quiet --memory-from runs/memory \
        --fluency 0.3 --summed --agreement 0.8 "$@"
}
"$train" questions --data "$data" --split dev --n-per-kind 700 --out runs/questions.jsonl
# Weights and temperatures of the answers are fitted on training photos; the bundle that ships has them.
bundle --out runs/bundles/unfitted
"$train" vqa --bundle runs/bundles/unfitted --data "$data" --questions runs/questions.jsonl \
    --calibrate --photos 300 --fitted runs/answers.toml
bundle --answers runs/answers.toml --out runs/bundles/f32
# What ships computes with int8: five times as fast, and a caption says the same.
"$train" quantize --bundle runs/bundles/f32 --data "$data" --out models/lite

"$train" eval --bundle models/lite --data "$data" --views runs/views --gallery docs/gallery.md \
    --out runs/results/lite.json --group bundle --label models/lite
"$train" gap --bundle models/lite --data "$data" --views runs/views --out runs/results/gap-lite.json
"$train" confidence --bundle models/lite --data "$data" --out runs/results/lite-frames.json
"$train" vqa --bundle models/lite --data "$data" --questions runs/questions.jsonl \
    --out runs/results/lite-questions.json
for set in vsr_dev okvqa_dev vqax_val; do
    "$train" vqa --bundle models/lite --data "$data" --set "$set" --out "runs/results/lite-$set.json"
done
"$train" report
