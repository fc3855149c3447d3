#!/usr/bin/env bash
# Everything that wants a GPU: catalogs, evidence of stock transformers, predictions against it. About half an hour on 16 cores.
#
#     goldens/gpu/all.sh MANTISSA SCRATCH OUT h200|h100 [GGUF]
#
# MANTISSA is the program, SCRATCH a folder to work in (20 GB), OUT where results go: <gpu>.json (a catalog; start from a copy of the
# committed one to add to it), report_*.json, evidence_h200. Needs torch, transformers and CUDA's libraries on LD_LIBRARY_PATH, for
# the GGUF (SmolLM2-135M-Instruct) also the gguf package. Some parts may fail; the others go on.
set -u
mantissa=$1 scratch=$2 out=$3 gpu=$4 gguf=${5:-}
here=$(dirname "$0")
mkdir -p "$scratch" "$out"

model() {
    [ -d "$scratch/$1" ] || "$mantissa" synth --quiet --out "$scratch/$1" "${@:2}" >/dev/null
}
say() {
    echo "== $(date +%T) $*"
}
say models
model smollm2-135m --preset smollm2-135m
model qwen2.5-7b --preset qwen2.5-7b --num-hidden-layers 2
model qwen3-0.6b --arch qwen3 --hidden-size 1024 --intermediate-size 3072 --num-hidden-layers 4 --num-attention-heads 16 \
    --num-key-value-heads 8 --head-dim 128 --vocab-size 151936
model qwen3-30b-a3b --preset qwen3-30b-a3b --num-hidden-layers 2

if [ "$gpu" = h200 ]; then
    small=(--prompts 1-640,648-2080/8,1000,1500,2000-2048 --keys 2-2112)
    large=(--prompts 1-64,72-256/8,505-520,2048 --keys 2-600,2048-2080)
else
    small=(--prompts 1-200,208-640/8,505-580,2040-2048 --keys 2-640,2040-2112)
    large=(--prompts 1-64,512,2048 --keys 2-100,505-560,2048-2080)
fi
catalog=$out/$gpu.json
export CATALOG=$catalog HARDWARE=$gpu
# The large ones first: they tell more.
for name in smollm2-135m qwen2.5-7b qwen3-30b-a3b qwen3-0.6b; do
    say "catalog: $name"
    if [ $name = smollm2-135m ]; then sizes=("${small[@]}"); else sizes=("${large[@]}"); fi
    "$mantissa" catalog build --model "$scratch/$name" "${sizes[@]}" --out "$catalog"
    if [ $name = smollm2-135m ] && [ "$gpu" = h200 ]; then
        say capture
        python3 "$here/capture.py" "$mantissa" "$scratch/capture" "$out/evidence_h200"
    fi
done

check() {
    say "check: $1"
    python3 "$here/check_transformers.py" "$mantissa" "$scratch" "$out/report_$1.json" "${@:2}"
}
# 512, 32 and 2,048 tokens at every batch size.
for name in smollm2-135m qwen2.5-7b qwen3-30b-a3b qwen3-0.6b; do
    cases=()
    for tokens in 509 29 2045; do
        for batch in 1 2 4 5 8 9 16 17; do
            cases+=("$name:${tokens}r:30:$batch")
        done
    done
    check $name "${cases[@]}" $name:7:30:1 $name:7:30:2 $name:479:30:1
done
if [ -n "$gguf" ]; then
    cases=()
    for tokens in 511 31 2047; do
        for batch in 1 2 4 5 8 9 16 17; do
            cases+=("$gguf:${tokens}r:30:$batch")
        done
    done
    check gguf "${cases[@]}" "$gguf:479:30:1"
fi
if [ "$gpu" = h200 ]; then
    cases=()
    for batch in 1 2 8 17; do
        cases+=("smollm2-135m:29r:30:$batch:sdpa_flash" "smollm2-135m:509r:30:$batch:sdpa_flash" "smollm2-135m:1900r:30:$batch:sdpa_flash")
    done
    check flash "${cases[@]}" smollm2-135m:{7,97,267,482}:0:1:sdpa_math {qwen2.5-7b,qwen3-0.6b}:{29r,509r}:30:{1,2,9}:sdpa_flash
fi
say done
