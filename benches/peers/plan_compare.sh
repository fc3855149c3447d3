#!/bin/sh
# The ablation plan's comparison on one generated experiment JSON, by Python and by ours in the same run, with wall time,
# processor time and peak memory of each.
#
#   plan_compare.sh PYTHON PROGRAM [FILE [ROUNDS]]
#
# PYTHON needs numpy. PROGRAM is the compiled example `sweep_json` of crates/evidence, or a program that takes FILE the
# same way: `PROGRAM FILE plan` compares one layer's keys, `PROGRAM FILE all` parses every signal. FILE is generated
# when it is not there (290 MB). Prints one line per measurement: name, seconds, user seconds, system seconds, peak KiB;
# on a busy machine compare the best of each name, by processor time. The two results are checked to agree. With
# MANTISSA=path of the command, `mantissa analyze --as-published --signal key_vectors FILE` is measured too: the same
# analyses, and the digest of the file.
set -eu
[ $# -ge 2 ] || { sed -n '2,14p' "$0" >&2; exit 2; }
python=$1 program=$2 file=${3:-${TMPDIR:-/tmp}/mantissa-plan.json} rounds=${4:-5}
here=$(dirname "$0")
[ -e "$file" ] || "$python" "$here/plan_workload.py" "$file"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
measure() {
    name=$1
    shift
    # A divergence (exit code 1) is a result.
    /usr/bin/time -q -f "$name %e %U %S %M" -a -o "$work/times" "$@" >"$work/$name.out" 2>/dev/null || [ $? = 1 ]
    tail -n 1 "$work/times"
}
cat "$file" >/dev/null
round=0
while [ "$round" -lt "$rounds" ]; do
    measure ours-plan "$program" "$file" plan
    measure ours-all "$program" "$file" all
    [ -z "${MANTISSA:-}" ] ||
        measure ours-command "$MANTISSA" analyze --quiet --as-published --signal key_vectors "$file"
    measure python-plan "$python" "$here/plan_compare.py" "$file"
    measure python-parse "$python" "$here/plan_compare.py" --parse-only "$file"
    round=$((round + 1))
done
"$python" - "$work" <<'PYTHON'
import collections, json, math, sys

work = sys.argv[1]
ours, theirs = (json.load(open(f"{work}/{name}-plan.out")) for name in ("ours", "python"))
assert ours.keys() == theirs.keys(), (ours.keys(), theirs.keys())
for key in ours:
    pairs = list(zip(ours[key], theirs[key], strict=True))
    assert all(math.isclose(a, b, rel_tol=1e-12) for a, b in pairs), (key, pairs)
best = collections.defaultdict(lambda: [math.inf, math.inf, 0])
for line in open(f"{work}/times"):
    name, *figures = line.split()
    wall, user, system, peak = map(float, figures)
    found = best[name]
    best[name] = [min(found[0], wall), min(found[1], user + system), max(found[2], peak)]
pairs = (("ours-plan", "python-plan"), ("ours-command", "python-plan"), ("ours-all", "python-parse"))
for ours, theirs in (pair for pair in pairs if pair[0] in best):
    wall, processor, memory = (b / max(a, 0.01) for a, b in zip(best[ours], best[theirs]))
    print(f"{ours}: {wall:.1f} times faster, {processor:.1f} by processor time, 1/{memory:.0f} of the memory ({theirs})")
PYTHON
