#!/usr/bin/env bash
# Trains and measures every row of the tables in docs/results.md but those of models/lite. A run that is there already
# is left alone and one that was cut goes on, so the script can be stopped and started again.
#
#   runs/presets.sh ../shared/data [SEED...]
#
# The text encoder and the image encoder are those of models/lite, or of the bundle in the folder LITE. About four minutes a row and seed on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: runs/presets.sh DATA [SEED...]}
shift
seeds=${*:-1 2 3}
train=${CAPTIOND_TRAIN:-target/release/captiond-train}
lite=${LITE:-models/lite}

[ -x "$train" ] || cargo build --release --bins

decoder() {
    "$train" decoder --data "$data" --text "$lite" --n-layer 2 --d 128 --d-mlp 384 --batch 128 "$@"
}

# recipe RUN OPTION...: 300 steps from the language model.
recipe() {
    run=$1
    shift
    [ -f "runs/$run/decoder.onnx" ] || decoder --out "runs/$run" --init runs/lm --labels runs/labels.txt \
        --seed "${run##*-}" --steps 300 --lr 1.5e-3 --warmup-steps 30 "$@"
}

# measure RUN NAME PLACES OPTION...: a bundle of the run, made with the options, its captions of the dev photos and, for
# the table of the noise, of clean text. PLACES are tables and rows: 'presets:capdec noise:0.45', with _ for a space.
measure() {
    run=$1 name=$2 places=$3
    shift 3
    [ -e "runs/bundles/$name/measured" ] && return
    "$train" bundle --text "$lite" --encoder "$lite" --decoder "runs/$run" --out "runs/bundles/$name" \
        --name "${run%-*}" "$@"
    groups=() labels=() noise=
    for place in $places; do
        groups+=("${place%%:*}")
        label=${place#*:}
        labels+=("${label//_/ }")
        [ "${place%%:*}" != noise ] || noise=$label
    done
    "$train" eval --bundle "runs/bundles/$name" --data "$data" --views runs/views \
        --out "runs/results/$name.json" --group "${groups[@]}" --label "${labels[@]}"
    if [ -n "$noise" ]; then
        "$train" eval --bundle "runs/bundles/$name" --data "$data" --input text \
            --out "runs/results/$name-text.json" --group noise --label "$noise"
    fi
    touch "runs/bundles/$name/measured"
}

# both RUN PLACES OPTION...: trains the recipe and measures it.
both() {
    recipe "$1" "${@:3}"
    measure "$1" "$1" "$2"
}

# The language model that every recipe starts from; its adapter, which no recipe has, is left behind. Neither it nor a
# recipe reads a sentence of the encoder's photos, unless it says so.
text_only=(--exclude-pairs)
[ -f runs/lm/decoder.onnx ] || decoder --out runs/lm "${text_only[@]}" --preset text --adapter linear --prefix-length 2 \
    --noise-cosine 0.33 1.0 --steps 1300 --lr 2e-3 --warmup-steps 100

# Collages for syntic, and for the oracle three encoders, each of which has not seen a third of the photos.
[ -f runs/synth/done ] || { "$train" synth --data "$data" --out runs/synth --n 6000 && touch runs/synth/done; }
synthetic=(--pairs runs/synth --encoder "$lite" "${text_only[@]}")
for fold in 0 1 2; do
    mkdir -p "runs/fold-$fold"
    # The features are the same for all.
    [ "$fold" = 0 ] || ln -f runs/fold-0/grids_*.f16 "runs/fold-$fold/"
    [ -f "runs/fold-$fold/image_encoder.onnx" ] || "$train" encoder --data "$data" --text "$lite" \
        --out "runs/fold-$fold" --folds 3 --fold "$fold" --n-views 3 --steps 300 --batch 512 --d-hidden 2048 \
        --dropout-in 0.3 --dropout 0.6
done
real=(--pairs "$data" --encoder runs/fold-0 runs/fold-1 runs/fold-2)

for seed in $seeds; do
    both "captiond-$seed" presets:captiond --preset captiond "${text_only[@]}"
    # What the encoder's photos are called may be read where the oracle reads it too, beside them.
    both "captiond_all-$seed" presets:captiond,_all_sentences --preset captiond
    # The sentences of the oracle and no others: what is left between the two is what photos add.
    both "captiond_pairs-$seed" presets:captiond,_the_sentences_of_oracle --preset captiond --sources pairs
    both "oracle-$seed" 'presets:oracle synthetic:oracle' --preset oracle "${real[@]}"
    both "text-$seed" 'presets:text noise:1 synthetic:text' --preset text "${text_only[@]}"
    both "capdec-$seed" 'presets:capdec noise:0.45 synthetic:text_and_noise' --preset capdec "${text_only[@]}"
    both "maccap-$seed" 'presets:maccap regions:ten_regions,_once rerank:4_noisy' --preset maccap "${text_only[@]}"
    both "syntic-$seed" 'presets:syntic synthetic:+_tags' --preset syntic "${synthetic[@]}"
    both "noise_0.7-$seed" 'noise:0.7 presets:capdec_at_0.7' --preset capdec --noise-cosine 0.7 "${text_only[@]}"
    both "maccap_0.7-$seed" presets:maccap_at_0.7 --preset maccap --noise-cosine 0.7 "${text_only[@]}"
    both "decap-$seed" presets:decap --preset decap "${text_only[@]}"
    both "viecap-$seed" presets:viecap --preset viecap "${text_only[@]}"
    both "noise_0.3-$seed" noise:0.3 --preset capdec --noise-cosine 0.3 "${text_only[@]}"
    # Noise that lies where captions differ, as large as leaves them as ignorant as a photo.
    both "capdec_captions-$seed" presets:capdec,_noise_of_captions --preset capdec --noise-from captions \
        --noise-cosine 0.5 "${text_only[@]}"
done

for seed in $seeds; do
    # Stage by stage from collages to syntic.
    plain=(--preset syntic --memory off --tags false)
    both "collages-$seed" synthetic:synthetic "${plain[@]}" --pseudo off "${synthetic[@]}"
    both "pseudo-$seed" synthetic:+_pseudo "${plain[@]}" "${synthetic[@]}"
    both "pseudo_memory-$seed" synthetic:+_memory --preset syntic --tags false "${synthetic[@]}"

    # How a region's patches are weighted, and how many captions there are to choose among.
    for affinity in twice patch; do
        measure "maccap-$seed" "maccap_$affinity-$seed" "regions:ten_regions,_$affinity" --affinity "$affinity"
    done
    both "maccap_one-$seed" regions:one_region --preset maccap --regions 1 "${text_only[@]}"
    measure "maccap-$seed" "maccap_beam-$seed" rerank:0,_the_beam_alone --samples 0 --noisy-only false
    for n in 1 8 16; do
        measure "maccap-$seed" "maccap_$n-$seed" "rerank:${n}_noisy" --samples "$n"
    done

    # Sentences of one data set, photos of another.
    recipe "coco-$seed" --preset captiond --sources coco "${text_only[@]}"
    measure "captiond-$seed" "flickr_flickr-$seed" 'cross-domain:Flickr,_memory_of_Flickr'
    measure "captiond-$seed" "flickr_coco-$seed" 'cross-domain:Flickr,_memory_of_COCO' --memory-from "runs/coco-$seed"
    measure "coco-$seed" "coco_coco-$seed" 'cross-domain:COCO,_memory_of_COCO'
    measure "coco-$seed" "coco_flickr-$seed" 'cross-domain:COCO,_memory_of_Flickr' --memory-from "runs/captiond-$seed"
done
"$train" report
