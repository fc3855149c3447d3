#!/usr/bin/env bash
# What bitsandbytes computes, on a machine with a GPU and no network:
#
#   bnb.sh FOLDER OUT [SECONDS]
#
# FOLDER has mantissa.xz, wheels/ (blake3) and site/ (bitsandbytes). Leaves in OUT bnb.json (../bnb.py), the containers
# of the quantized models of plan.py and logs. SECONDS, default 420: how long the captures may take.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
work=/tmp/bnb-work
mkdir -p "$work" && cd "$work" || exit 1
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONPATH=$folder/site
xz -dc "$folder/mantissa.xz" >mantissa && chmod +x mantissa && ./mantissa --version
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target site-blake3 \
    "$folder"/wheels/*.whl
(timeout 300 python3 "$here/../bnb.py" "$out" >"$out/bnb.log" 2>&1; echo "bnb.py ended: $?" >>"$out/bnb.log") &
jobs=$(python3 -c "
import sys
sys.path.insert(0, '$here')
import plan
print(*(job.name for job in plan.JOBS if job.model.endswith(tuple(plan.QUANTIZED))))")
# shellcheck disable=SC2086
timeout "${3:-420}" python3 "$here/jobs.py" run "$work" "$work/mantissa" --gpus 1 --only $jobs
wait
tail -n 3 "$out/bnb.log"
python3 "$here/jobs.py" collect "$work" "$out" --bytes 60000000
for log in logs/*.log; do grep -q Error "$log" && echo "== $log" && tail -n 4 "$log" | cut -c1-400; done
ls -l "$out"
