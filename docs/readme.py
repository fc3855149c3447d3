#!/usr/bin/env python3
"""Runs the examples of the README and docs/drift.md with a built program and holds what they print against what
stands there.

    python3 docs/readme.py target/release/mantissa

Of every block marked `console`, each command after `$ ` runs in one temporary folder, in which `goldens`, `plans` and
`LICENSE-APACHE` are the repository's. The lines below it must stand in its output in that order; `…` stands for lines
that are left out. A block marked `python` with `print` runs too, where numpy is installed; `# …` behind a print is what
it prints.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def blocks(text):
    """Each fenced block: its mark, its lines, the number of its first line."""
    mark, lines = None, []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            if mark is not None:
                yield mark, lines, number - len(lines)
                mark = None
            else:
                mark, lines = line[3:].strip(), []
        elif mark is not None:
            lines.append(line)


def commands(lines):
    """Each command and the lines that it prints."""
    found = []
    for line in lines:
        if line.startswith("$ "):
            found.append([line[2:], []])
        elif found and found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1][0] += "\n" + line
        elif found:
            found[-1][1].append(line.rstrip())
    return found


def missing(expected, printed):
    """The first expected line that does not stand in what was printed behind those before it."""
    lines = iter(line.rstrip() for line in printed.splitlines())
    for line in expected:
        if line.strip() in ("", "…"):
            continue
        if line not in lines:
            return line
    return None


def main():
    program = Path(sys.argv[1]).resolve()
    ran = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        work, path = Path(folder) / "work", Path(folder) / "bin"
        work.mkdir()
        path.mkdir()
        (path / "mantissa").symlink_to(program)
        for name in ["goldens", "plans", "LICENSE-APACHE"]:
            (work / name).symlink_to(REPOSITORY / name)
        environment = os.environ | {
            "PATH": f"{path}:{os.environ['PATH']}",
            "MANTISSA_HOME": str(Path(folder) / "home"),
            "NO_COLOR": "1",
        }

        def run(command):
            return subprocess.run(
                command, cwd=work, env=environment, capture_output=True, text=True, check=False
            )

        for page in ("README.md", "docs/drift.md"):
            for mark, lines, number in blocks((REPOSITORY / page).read_text()):
                if mark == "console":
                    for command, expected in commands(lines):
                        result = run(["bash", "-c", command])
                        ran += 1
                        lost = missing(expected, result.stdout)
                        if lost is not None or result.returncode not in (0, 1, 3):
                            failed += 1
                            print(f"{page}:{number}: $ {command}\nexit {result.returncode}")
                            print(result.stdout + result.stderr)
                            print(f"does not print, in this order: {lost}")
                elif mark == "python" and any(line.startswith("print(") for line in lines):
                    if run([sys.executable, "-c", "import numpy"]).returncode:
                        print(f"{page}:{number}: NOT TESTED, no numpy")
                        continue
                    printing = [line for line in lines
                            if line.startswith("print(") and "  # " in line]
                    expected = [line.split("  # ", 1)[1] for line in printing]
                    result = run([sys.executable, "-c", "\n".join(lines)])
                    ran += 1
                    if result.stdout.split("\n")[:-1] != expected:
                        failed += 1
                        print(f"{page}:{number}: python\n{result.stdout}{result.stderr}instead of {expected}")
    print(f"{ran} examples, {failed} failed")
    sys.exit(1 if failed or not ran else 0)


if __name__ == "__main__":
    main()
