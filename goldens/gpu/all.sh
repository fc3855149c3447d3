#!/usr/bin/env bash
# Everything that wants a GPU, in one call: catalogs, evidence of stock transformers, predictions against it.
#
#     goldens/gpu/all.sh MANTISSA SCRATCH OUT h200|h100
#
# MANTISSA is the program, SCRATCH a folder to work in (20 GB), OUT where results go: <gpu>.json (a catalog; start from a copy of the
# committed one to add to it), report.json, evidence_h200. Needs torch, transformers and CUDA's libraries on LD_LIBRARY_PATH. Some parts may fail; the others go on.
set -u
mantissa=$1 scratch=$2 out=$3 gpu=$4
here=$(dirname "$0")
mkdir -p "$scratch" "$out"

model() {
    [ -d "$scratch/$1" ] || "$mantissa" synth --quiet --out "$scratch/$1" "${@:2}" >/dev/null
}
model smollm2-135m --preset smollm2-135m
model qwen2.5-7b --preset qwen2.5-7b --num-hidden-layers 2
model qwen3-0.6b --arch qwen3 --hidden-size 1024 --intermediate-size 3072 --num-hidden-layers 4 --num-attention-heads 16 \
    --num-key-value-heads 8 --head-dim 128 --vocab-size 151936
model qwen3-30b-a3b --preset qwen3-30b-a3b --num-hidden-layers 2

catalog=$out/$gpu.json
"$mantissa" catalog build --model "$scratch/smollm2-135m" --prompts 1-640,648-2080/8,1000,1500,2000-2048 --keys 2-2112 --out "$catalog"
for name in qwen2.5-7b qwen3-0.6b qwen3-30b-a3b; do
    "$mantissa" catalog build --model "$scratch/$name" --prompts 1-64,72-256/8,512 --keys 2-600 --out "$catalog"
    "$mantissa" catalog build --model "$scratch/$name" --batch-sizes 1,2 --prompts 2048 --keys 2048-2080 --out "$catalog"
done

[ "$gpu" = h100 ] || python3 "$here/capture.py" "$mantissa" "$scratch/capture" "$out/evidence_h200"

export CATALOG=$catalog HARDWARE=$gpu
cases=()
for batch in 1 2 4 5 8 9 16 17; do
    cases+=("smollm2-135m:479:30:$batch" "smollm2-135m:7:30:$batch" "qwen3-0.6b:7:30:$batch" "qwen2.5-7b:7:30:$batch")
done
for name in qwen2.5-7b qwen3-0.6b qwen3-30b-a3b; do
    cases+=("$name:479:30:1" "$name:479:30:2")
done
cases+=(smollm2-135m:2014:30:1 smollm2-135m:482:30:17 qwen3-30b-a3b:7:30:1 qwen3-30b-a3b:7:30:2 qwen3-30b-a3b:7:30:9)
[ "$gpu" = h100 ] || for batch in 1 2 8; do
    cases+=("smollm2-135m:7:30:$batch:sdpa_flash" "smollm2-135m:479:30:$batch:sdpa_flash" "qwen2.5-7b:479:10:$batch:sdpa_flash")
done
python3 "$here/check_transformers.py" "$mantissa" "$scratch" "$out/report.json" "${cases[@]}"
