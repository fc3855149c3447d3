#!/usr/bin/env bash
# The three scripts of this folder on a machine with a GPU and no network, to which files come in parts.
#
#   run.sh take FOLDER       moves the parts of FOLDER to WORK
#   run.sh early             once the model and the program are there: prefill_decode.py, then compiled.py, in a
#                            session of their own, so that the rest can come meanwhile
#   run.sh late OUT          once all is there: vLLM, vllm_transformers.py; waits for the early ones; results to OUT
#
# Parts: mantissa.xz, model.00 … (a GGUF file cut), gguf-*.whl, rest.00 … (a tar file cut: wheels/, vllm.tar.xz.*).
# WORK is $DRIFT_WORK, default /tmp/drift.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
work=${DRIFT_WORK:-/tmp/drift}
mkdir -p "$work"
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false DRIFT_WORK=$work
export TORCHINDUCTOR_CACHE_DIR=$work/inductor TRITON_CACHE_DIR=$work/triton
say() { echo "$(date +%T) $*"; }

jobs_early() {
    say "weights"
    python3 -m pip install -q --no-index --no-deps --no-compile --target "$work/site-gguf" "$work"/gguf-*.whl
    PYTHONPATH=$work/site-gguf python3 "$here/weights.py" "$(ls "$work"/model.[0-9][0-9] | paste -sd,)" \
        "$work/smollm2" "$work/mantissa" 2>&1 | grep -v "it/s"
    say "prefill_decode"
    timeout 240 python3 "$here/prefill_decode.py" "$work/mantissa" "$work/smollm2" "$work/out/prefill_decode"
    say "compiled"
    timeout 280 python3 "$here/compiled.py" "$work/mantissa" "$work/smollm2" "$work/out/compiled"
    say "early jobs ended"
}

pack() { # NAME, FOLDER, what
    local name=$1 folder=$2
    shift 2
    (cd "$folder" 2>/dev/null && tar cf - "$@" 2>/dev/null | xz -T0 -3 >"$out/$name.tar.xz")
}

case ${1:-} in
take)
    mv "$2"/* "$work"/
    say "$(cd "$work" && ls | paste -sd' '), $(du -sm "$work" | cut -f1) MB"
    ;;
early)
    xz -dc "$work/mantissa.xz" >"$work/mantissa" && chmod +x "$work/mantissa" && "$work/mantissa" --version
    # A copy: the tree of the next call replaces this one.
    mkdir -p "$work/tree/goldens/drift"
    cp -r "$root/python" "$work/tree/" && cp -r "$here" "$work/tree/goldens/drift/"
    setsid nohup bash "$work/tree/goldens/drift/gpu/run.sh" jobs >"$work/early.log" 2>&1 </dev/null &
    sleep "${2:-1}"
    cat "$work/early.log"
    ;;
jobs)
    jobs_early
    touch "$work/early.done"
    ;;
late)
    out=$2
    say "vLLM"
    cat "$work"/rest.[0-9][0-9] | tar xf - -C "$work" && rm "$work"/rest.[0-9][0-9]
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$work/site" \
        "$work"/wheels/*.whl
    cat "$work"/vllm.tar.xz.* | xz -dc -T8 | tar xf - -C "$work/site"
    say "vllm_transformers"
    PYTHONPATH=$work/site timeout 330 python3 "$here/vllm_transformers.py" "$work/mantissa" "$work/smollm2" \
        "$work/out/vllm_transformers" 2>&1 | tee "$work/vllm.log"
    for _ in $(seq "${3:-150}"); do [ -e "$work/early.done" ] && break; sleep 1; done
    cat "$work/early.log"
    mkdir -p "$out" "$work/out/logs"
    cp "$work"/*.log "$work/out/logs/"
    # Containers apart: they are the largest.
    (cd "$work/out" && find . -type f \( -name '*.md' -o -name '*.json' -o -name '*.txt' -o -name '*.log' \) \
        ! -name manifest.json ! -name timing.json ! -path '*/model/*' | tar cf - -T - | xz -T0 -6 \
        >"$out/results.tar.xz")
    pack prefill_decode "$work/out/prefill_decode/evidence" .
    pack compiled "$work/out/compiled" eager compiled emulated
    pack vllm1 "$work/out/vllm_transformers" vllm1
    pack transformers1 "$work/out/vllm_transformers" transformers1 nodes.md
    ls -l "$out"
    say "ended"
    ;;
*)
    sed -n '2,12p' "$0"
    exit 2
    ;;
esac
