#!/usr/bin/env bash
# Trains and measures every row of the tables in docs/results.md but those of models/lite. A run that is there already
# is left alone and one that was cut goes on, so the script can be stopped and started again.
#
#   runs/presets.sh ../shared/data [SEED...]
#
# The text encoder is that of models/lite, the image encoder one with the same frozen backbone for all rows, trained
# here, so that those of the folds differ from it in the photos that they have seen and in nothing else.
# About four minutes a row and seed on two cores. Each seed is a process's work: two can run side by side once the first
# has made what all need, best with RAYON_NUM_THREADS=1.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: runs/presets.sh DATA [SEED...]}
shift
seeds=${*:-1 2 3}
train=${CAPTIOND_TRAIN:-target/release/captiond-train}
lite=models/lite

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
    "$train" bundle --text "$lite" --encoder runs/fold-all --decoder "runs/$run" --out "runs/bundles/$name" \
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

# The image encoder, and for the oracle three more, each of which has not seen a third of the photos.
for fold in all 0 1 2; do
    mkdir -p "runs/fold-$fold"
    part=()
    # The features are the same for all.
    [ "$fold" = all ] || { ln -f runs/fold-all/grids_*.f16 "runs/fold-$fold/" && part=(--folds 3 --fold "$fold"); }
    [ -f "runs/fold-$fold/image_encoder.onnx" ] || "$train" encoder --data "$data" --text "$lite" \
        --out "runs/fold-$fold" "${part[@]}" --n-views 3 --steps 300 --batch 512 --d-hidden 2048 \
        --dropout-in 0.3 --dropout 0.6 --mean-weight 3
done
# Collages for syntic.
[ -f runs/synth/done ] || { "$train" synth --data "$data" --out runs/synth --n 6000 && touch runs/synth/done; }
synthetic=(--pairs runs/synth --encoder runs/fold-all "${text_only[@]}")
real=(--pairs "$data" --encoder runs/fold-0 runs/fold-1 runs/fold-2)

# Of ten copies with noise that leaves a cosine of 0.3 the mean has 0.7, where capdec is best.
spread=(--preset maccap --noise-cosine 0.3 "${text_only[@]}")
# What captiond and oracle are shown half of the time is what the memory makes of it, as it is in half of the search.
share=(--memory both --memory-share 0.5)

for seed in $seeds; do
    both "oracle-$seed" 'presets:oracle synthetic:oracle' --preset oracle "${share[@]}" "${real[@]}"
    both "oracle_noise-$seed" presets:oracle_with_noise --preset oracle --noise-cosine 0.85 "${share[@]}" "${real[@]}"
    # The sentences of the oracle and no others: what is left between the two is what photos add.
    both "captiond_pairs-$seed" "presets:captiond,_oracle's_sentences" --preset captiond --sources pairs
    both "captiond_share-$seed" "presets:captiond_with_memory,_oracle's_sentences" --preset captiond \
        --sources pairs "${share[@]}"
    both "captiond-$seed" 'presets:captiond cross-domain:Flickr,_memory_of_Flickr' --preset captiond "${text_only[@]}"
    both "text-$seed" 'presets:text noise:1 synthetic:text' --preset text "${text_only[@]}"
    both "capdec-$seed" 'presets:capdec noise:0.45 synthetic:text_and_noise' --preset capdec "${text_only[@]}"
    both "noise_0.7-$seed" 'noise:0.7 presets:capdec_at_0.7 rerank:0,_the_beam_alone' --preset capdec --noise-cosine 0.7 "${text_only[@]}"
    # MacCap's choice behind CapDec's adapter.
    measure "noise_0.7-$seed" "capdec_4-$seed" 'presets:capdec_at_0.7,_re-ranked rerank:4_noisy' \
        --samples 4 --sample-cosine 0.8
    both "noise_0.3-$seed" noise:0.3 --preset capdec --noise-cosine 0.3 "${text_only[@]}"
    both "maccap-$seed" presets:maccap --preset maccap "${text_only[@]}"
    recipe "maccap_0.3-$seed" "${spread[@]}"
    measure "maccap_0.3-$seed" "maccap_0.3-$seed" 'presets:maccap_at_0.3 regions:ten_regions,_once' --sample-cosine 0.3
    both "syntic-$seed" 'presets:syntic synthetic:+_tags' --preset syntic "${synthetic[@]}"
    cp "runs/syntic-$seed/pseudo.json" runs/results/pseudo.json
    both "decap-$seed" presets:decap --preset decap "${text_only[@]}"
    both "viecap-$seed" presets:viecap --preset viecap "${text_only[@]}"
done

for seed in $seeds; do
    # Stage by stage from collages to syntic.
    plain=(--preset syntic --memory off --tags false)
    both "collages-$seed" synthetic:synthetic "${plain[@]}" --pseudo off "${synthetic[@]}"
    both "pseudo-$seed" synthetic:+_pseudo "${plain[@]}" "${synthetic[@]}"
    both "pseudo_memory-$seed" synthetic:+_memory --preset syntic --tags false "${synthetic[@]}"

    # How a region's patches are weighted, beside one region with the noise that the mean of ten has; and how many
    # captions there are to choose among.
    recipe "maccap_one-$seed" --preset maccap --regions 1 --noise-cosine 0.7 "${text_only[@]}"
    measure "maccap_one-$seed" "maccap_one-$seed" regions:one_region --sample-cosine 0.7
    for affinity in twice patch; do
        measure "maccap_0.3-$seed" "maccap_$affinity-$seed" "regions:ten_regions,_$affinity" --affinity "$affinity" \
            --sample-cosine 0.3
    done
    for n in 1 8 16; do
        measure "noise_0.7-$seed" "capdec_$n-$seed" "rerank:${n}_noisy" --samples "$n" --sample-cosine 0.8
    done

    # Sentences of one data set, photos of another.
    recipe "coco-$seed" --preset captiond --sources coco "${text_only[@]}"
    measure "captiond-$seed" "flickr_coco-$seed" 'cross-domain:Flickr,_memory_of_COCO' --memory-from "runs/coco-$seed"
    measure "coco-$seed" "coco_coco-$seed" 'cross-domain:COCO,_memory_of_COCO'
    measure "coco-$seed" "coco_flickr-$seed" 'cross-domain:COCO,_memory_of_Flickr' --memory-from "runs/captiond-$seed"
done
# The encoder of all rows, whichever bundle it is in.
"$train" gap --bundle "runs/bundles/maccap-${seeds%% *}" --data "$data" --views runs/views --out runs/results/gap-frozen.json
"$train" report
