"""Counts, from the commits, the files outside tests that each addition touched.

    python3 docs/additions.py

An addition of a family is a commit that adds a file to crates/model/src/family; one of an axis is a commit that adds an
entry to the table of axes (crates/numerics/src/setup.rs) after it was made. Files outside tests are those under
crates/*/src; goldens, tests, docs, benches and fuzz targets are not counted. The line "before" counts the files that
named the family Qwen3-MoE, and those that named the attention of a setup, in the commit before the graph and the table.
Ends with 1 if a family touched more than one new file and its registration, or an axis more than two files.
"""

import re
import subprocess
import sys

BEFORE = "da78761"
FAMILIES = "crates/model/src/family/"
REGISTRATION = FAMILIES + "mod.rs"
AXES = "crates/numerics/src/setup.rs"


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.splitlines()


def is_code(path):
    return re.match(r"crates/[^/]+/src/", path) and not re.search(r"(^|/)tests?(\.rs|/)", path)


def touched(commit):
    changes = [line.split("\t") for line in git("show", "--format=", "--name-status", "--no-renames", commit)]
    return [(kind, path) for kind, path in changes if is_code(path)]


def named(pattern):
    found = git("grep", "-lE", pattern, BEFORE, "--", "crates")
    return len([path for path in found if is_code(path.split(":", 1)[1])])


def main():
    wrong = 0
    print("| addition | commit | files outside tests |")
    print("|---|---|---|")
    print(f"| a family, before (Qwen3-MoE) | {BEFORE} | {named('Qwen3Moe')} |")
    first = git("log", "--reverse", "--no-merges", "--diff-filter=A", "--format=%h", "--", FAMILIES)[:1]
    for commit in git("log", "--reverse", "--no-merges", "--diff-filter=A", "--format=%h", "--", FAMILIES):
        if commit in first:
            continue
        changes = touched(commit)
        new = [path for kind, path in changes if kind == "A" and path.startswith(FAMILIES)]
        names = ", ".join(path.removeprefix(FAMILIES).removesuffix(".rs") for path in new)
        others = [path for _, path in changes if path not in new]
        wrong += len(new) != 1 or any(path != REGISTRATION for path in others)
        print(f"| family {names} | {commit} | {len(changes)}: {', '.join(path for _, path in changes)} |")
    print(f"| an axis, before (attention) | {BEFORE} | {named('[aA]ttention: Attention|Attention::ALL|Attention::name')} |")
    for commit in git("log", "--reverse", "--no-merges", "--format=%h", "--grep=is an axis", "--", AXES):
        changes = touched(commit)
        wrong += len(changes) > 2
        subject = git("log", "-1", "--format=%s", commit)[0].split(" is an axis")[0]
        print(f"| axis {subject} | {commit} | {len(changes)}: {', '.join(path for _, path in changes)} |")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
