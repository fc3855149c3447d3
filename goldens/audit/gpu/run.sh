#!/usr/bin/env bash
# Servers and probes, unattended. WORK (default /tmp/parallel) has `mantissa` (or mantissa.xz), site/ and, when vLLM is
# unpacked into it, site.done.
#
#   run.sh start [SESSION] [LIMIT] [SLOTS] [--only NAME…]   copies this folder to WORK/serve and starts in the background
#   run.sh look                                             what happened so far
#   run.sh collect OUT                                      everything there is, packed (a few MB); call it as often as liked
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${PARALLEL_WORK:-/tmp/parallel}
out=$work/serve-out
case ${1:-} in
start)
    shift
    session=${1:-1} limit=${2:-420} slots=${3:-6}
    shift $(($# < 3 ? $# : 3))
    mkdir -p "$work/serve" "$out"
    cp -r "$here"/. "$work/serve/"
    [ -e "$work/mantissa" ] && chmod +x "$work/mantissa"; [ -x "$work/mantissa" ] || { xz -dc "$work/mantissa.xz" >"$work/mantissa.new" && chmod +x "$work/mantissa.new" && mv "$work/mantissa.new" "$work/mantissa"; }
    rm -f "$out/DONE"
    setsid nohup bash "$work/serve/run.sh" background "$session" "$limit" "$slots" "$@" >>"$out/background.log" 2>&1 </dev/null &
    sleep 1
    ls "$work" "$out"
    ;;
background)
    shift
    session=$1 limit=$2 slots=$3
    shift 3
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$work/serve-site" "$here"/whl/*.whl
    if [ "$session" = 1 ]; then
        (
            until [ -e "$work/site.done" ]; do sleep 0.5; done
            cd "$here" && PYTHONPATH=$work/serve-site:$work/site TRITON_CACHE_DIR=$work/triton timeout -k 5 150 python3 probe.py "$out/probe"
        ) >"$out/probe.log" 2>&1 &
    fi
    python3 "$here/serve.py" run "$work" "$out" --session "$session" --limit "$limit" --slots "$slots" "$@"
    ;;
look)
    cat "$out/status.txt" "$out/probe.log" 2>/dev/null | tail -60
    ls "$out"
    ;;
collect)
    mkdir -p "$2"
    cp "$out/status.txt" "$2/" 2>/dev/null
    tar c -C "$out" . | xz -6 -T8 >"$2/serve.tar.xz"
    ls -l "$2"
    [ -e "$out/DONE" ] && echo "serve: all ended" || { echo "serve: goes on"; tail -5 "$out/status.txt"; }
    ;;
*)
    sed -n '2,9p' "$0"
    exit 2
    ;;
esac
