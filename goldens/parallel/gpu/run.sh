#!/usr/bin/env bash
# The captures of this folder on a machine with two GPUs and no network, to which files come in parts.
#
#   run.sh take FOLDER       moves the parts of FOLDER to WORK
#   run.sh start             once mantissa.xz and wheels are there: everything, in a session of its own. vLLM is
#                            unpacked while its parts come, its jobs begin when it is whole
#   run.sh wait SECONDS      until all jobs ended, at most so long; prints what happened
#   run.sh collect OUT       what is packed and was not handed out yet, at most 62 MiB; logs
#
# Parts: mantissa.xz, wheels/, vllm.00 … vllm.NN (a tar.xz file cut) and vllm.count, how many. WORK is $PARALLEL_WORK,
# default /tmp/parallel. $PARALLEL_RUN: more arguments of `jobs.py run`. NVLink multicast stays off.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
work=${PARALLEL_WORK:-/tmp/parallel}
mkdir -p "$work"
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PARALLEL_WORK=$work
export TRITON_CACHE_DIR=$work/triton VLLM_CACHE_ROOT=$work/vllm-cache VLLM_NO_USAGE_STATS=1
export NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
say() { echo "$(date +%T) $*"; }
install() { # TARGET, wheels
    local target=$1
    shift
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$target" "$@"
}

case ${1:-} in
take)
    # Under another name until it is whole: what unpacks waits for it.
    for file in "$2"/*; do
        cp -r "$file" "$work/.coming" && mv "$work/.coming" "$work/$(basename "$file")" && rm -r "$file"
    done
    say "$(cd "$work" && ls | paste -sd' '), $(du -sm "$work" | cut -f1) MB"
    [ -e "$work/status.txt" ] && cat "$work/status.txt"
    true
    ;;
start)
    xz -dc "$work/mantissa.xz" >"$work/mantissa" && chmod +x "$work/mantissa" && "$work/mantissa" --version
    # A copy: the tree of the next call replaces this one.
    mkdir -p "$work/tree/goldens/parallel"
    cp -r "$root/python" "$work/tree/" && cp -r "$here" "$work/tree/goldens/parallel/"
    setsid nohup bash "$work/tree/goldens/parallel/gpu/run.sh" background >"$work/background.log" 2>&1 </dev/null &
    nvidia-smi topo -m 2>/dev/null | tee "$work/topology.txt" | head -8
    sleep "${2:-2}"
    cat "$work/background.log"
    ;;
background)
    mkdir -p "$work/site"
    install "$work/site-blake3" "$work"/wheels/blake3-*.whl
    # shellcheck disable=SC2086
    python3 "$here/jobs.py" run "$work" "$work/mantissa" ${PARALLEL_RUN:-} &
    install "$work/site" "$work"/wheels/*.whl
    say "wheels are there"
    for n in $(seq 0 $(($(cat "$work/vllm.count") - 1))); do
        part=$(printf '%s/vllm.%02d' "$work" "$n")
        until [ -e "$part" ]; do sleep 0.2; done
        cat "$part" && rm "$part"
    done | xz -dc -T8 | tar xf - -C "$work/site" && touch "$work/site.done"
    say "vLLM is there: $(du -sm "$work/site" | cut -f1) MB"
    wait
    ;;
wait)
    for _ in $(seq "$2"); do [ -e "$work/jobs.done" ] && break; sleep 1; done
    cat "$work/background.log"
    for log in "$work"/logs/*.log; do
        grep -q "Error" "$log" 2>/dev/null && echo "== $log" && grep "Error" "$log" | tail -2 | cut -c1-300
    done
    true
    ;;
collect)
    mkdir -p "$2"
    python3 "$here/jobs.py" collect "$work" "$2"
    ls -l "$2"
    ;;
*)
    sed -n '2,14p' "$0"
    exit 2
    ;;
esac
