#!/usr/bin/env bash
# Everything that wants a GPU: catalogs, evidence of stock transformers, predictions against it. About half an hour on 16 cores.
#
#     [PARTS="catalog capture eager gguf sdpa"] goldens/gpu/all.sh MANTISSA SCRATCH OUT h200|h100 [GGUF]
#
# MANTISSA is the program, SCRATCH a folder to work in (20 GB), OUT where results go: <gpu>.json (a catalog, measured anew unless it is
# there), report_*.json and <gpu>_transformers.json, evidence_h200. PARTS picks some of the work. Needs torch, transformers and CUDA's libraries
# on LD_LIBRARY_PATH, for the GGUF (SmolLM2-135M-Instruct) also the gguf package. Some parts may fail; the others go on.
set -u
mantissa=$1 scratch=$2 out=$3 gpu=$4 gguf=${5:-}
parts=" ${PARTS:-catalog capture eager gguf sdpa} "
here=$(dirname "$0")
mkdir -p "$scratch" "$out"
export HARDWARE=$gpu CATALOG=$out/$gpu.json

reports=()

wanted() {
    [[ $parts == *" $1 "* ]]
}
say() {
    echo "== $(date +%T) $*"
}
check() {
    say "check: $1"
    reports+=("$out/report_$1.json")
    python3 "$here/check_transformers.py" "$mantissa" "$scratch" "$out/report_$1.json" "${@:2}"
}
# Cases of a model: so many document tokens, at every batch size; the third at two, but on an H200.
grid() {
    for tokens in $2 $3 $4; do
        local batches="1 2 4 5 8 9 16 17"
        if [ "$gpu$tokens" = "h100$4" ]; then batches="1 9"; fi
        for batch in $batches; do
            echo "$1:${tokens}r:30:$batch"
        done
    done
}

say models
python3 "$here/cases.py" "$mantissa" "$scratch"

if wanted catalog; then
    if [ "$gpu" = h200 ]; then
        small=(--prompts 1-640,648-2080/8,1000,1500,2000-2048 --keys 2-2112)
        large=(--prompts 1-64,72-256/8,505-520,2048 --keys 2-600,2048-2080)
        plain=(--prompts 1-640,1904,2016 --keys 2-680,1904-2048)
    else
        small=(--prompts 1-200,208-2080/8,505-580,2040-2048 --keys 2-640,1000-1040,1904-1936,2000-2112)
        large=(--prompts 1-64,72-256/8,505-520,2048 --keys 2-100,505-560,2048-2080)
        plain=(--prompts 1-64,72-256/8,505-520,1904 --keys 2-100,505-560,1904-1936)
    fi
    for name in smollm2-135m qwen2.5-7b qwen3-30b-a3b qwen3-0.6b; do
        say "catalog: $name"
        if [ $name = smollm2-135m ]; then sizes=("${small[@]}"); else sizes=("${large[@]}"); fi
        "$mantissa" catalog build --model "$scratch/$name" "${sizes[@]}" --out "$CATALOG"
    done
    for name in smollm2-135m qwen2.5-7b; do
        say "catalog: $name, math backend"
        "$mantissa" catalog build --attention sdpa_math --model "$scratch/$name" "${plain[@]}" --out "$CATALOG"
    done
fi
if wanted capture && [ "$gpu" = h200 ]; then
    say capture
    python3 "$here/capture.py" "$mantissa" "$scratch/capture" "$out/evidence_h200"
fi
if wanted eager; then
    for name in smollm2-135m qwen2.5-7b qwen3-30b-a3b qwen3-0.6b; do
        check $name $(grid $name 509 29 2045) $name:7:30:1 $name:7:30:2 $name:479:30:1
    done
fi
if wanted gguf && [ -n "$gguf" ]; then
    check gguf $(grid "$gguf" 511 31 2047) "$gguf:479:30:1"
fi
if wanted sdpa && [ "$gpu" = h100 ]; then
    check flash smollm2-135m:{29r,509r}:30:{1,17}:sdpa_flash qwen2.5-7b:{29r,509r}:30:{1,9}:sdpa_flash smollm2-135m:1901r:30:8:sdpa_flash
    check math smollm2-135m:{29r,509r}:30:{1,2,8,17}:sdpa_math qwen2.5-7b:{29r,509r}:30:{1,9}:sdpa_math
elif wanted sdpa; then
    check flash smollm2-135m:{29r,509r,1901r}:30:{1,2,8,17}:sdpa_flash qwen2.5-7b:{29r,509r}:30:{1,2,9}:sdpa_flash \
        qwen2.5-7b:253r:30:{4,17}:sdpa_flash qwen3-0.6b:{29r,509r}:30:{1,2,9}:sdpa_flash qwen3-30b-a3b:{29r,509r}:30:{1,8}:sdpa_flash
    check math smollm2-135m:{29r,509r}:30:{1,2,4,5,8,9,16,17}:sdpa_math smollm2-135m:1901r:30:{1,8}:sdpa_math \
        smollm2-135m:{7,97,267,482}:30:1:sdpa_math qwen2.5-7b:{29r,509r}:30:{1,2,9}:sdpa_math
fi
say merge
[ ${#reports[@]} = 0 ] || python3 "$here/merge.py" "$out/${gpu}_transformers.json" "${reports[@]}"
say done
