"""The wheel: what is in it, and a fresh virtual environment with nothing else. Not among the tests that discovery
finds: it builds the program with optimizations, and needs PyPI.

    python3 python/tests/wheel.py [--profile dev] [--maturin PROGRAM] [--wheel FILE]
"""

import argparse
import glob
import os
import subprocess
import sys
import tempfile
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGE = os.path.join(ROOT, "python", "mantissa_forensics")
# In the fresh environment: everything that needs no PyTorch works, and what needs it says so by name.
ALONE = """
import sys, mantissa_forensics, numpy, safetensors
from mantissa_forensics import blake3, container, errors, prompts, repetitions, sites
assert "torch" not in sys.modules and "transformers" not in sys.modules
assert blake3.of_ids([1, 2]) == blake3.digest(b"\\1\\0\\0\\0\\2\\0\\0\\0")
bits = numpy.arange(6, dtype=numpy.uint16).reshape(1, 1, 6)
phase = container.Phase(1, [-1], {"final_norm": container.Tensor("bf16", bits)})
run = container.Run("c", 0, 0, [1, 2], [], {"prefill": phase})
assert run.signals_digest() == run.signals_digest()
try:
    mantissa_forensics.Capture
except ImportError as error:
    assert error.name == "torch", error
else:
    raise SystemExit("there is a torch here")
print("alone: ok")
"""


def build(arguments, out):
    command = [arguments.maturin, "build", "--out", out]
    if arguments.profile:
        command += ["--profile", arguments.profile]
    subprocess.run(command, check=True, cwd=os.path.join(ROOT, "python"))
    [wheel] = glob.glob(os.path.join(out, "*.whl"))
    return wheel


def contents(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        [metadata] = [n for n in names if n.endswith(".dist-info/METADATA")]
        text = file.read(metadata).decode()
    sources = [
        os.path.join("mantissa_forensics", os.path.relpath(path, PACKAGE))
        for path in glob.glob(os.path.join(PACKAGE, "**", "*.py"), recursive=True)
    ]
    lacking = set(sources) - set(names)
    assert not lacking, f"not in the wheel: {sorted(lacking)}"
    others = [n for n in names if n not in sources and ".dist-info/" not in n and ".data/scripts/" not in n]
    assert not others, f"also in the wheel: {others}"
    assert [os.path.basename(n) for n in names if ".data/scripts/" in n] == ["mantissa"], names
    required = sorted(line.split(": ")[1] for line in text.splitlines() if line.startswith("Requires-Dist"))
    assert required == ["numpy", "safetensors"], required
    assert "Requires-Python: >=3.10" in text and os.path.basename(wheel).startswith("mantissa_forensics-"), text
    print(f"{os.path.basename(wheel)}: {len(names)} files, {os.path.getsize(wheel)} bytes: ok")


def fresh(wheel):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python, program = (os.path.join(folder, "bin", name) for name in ("python", "mantissa"))
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel], check=True)
        version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
        assert version.startswith("mantissa "), version
        clean = {"PATH": os.path.join(folder, "bin"), "HOME": folder}
        subprocess.run([python, "-c", ALONE], check=True, cwd=folder, env=clean)
        help_text = subprocess.run(
            [python, "-m", "mantissa_forensics.replay"], capture_output=True, text=True, cwd=folder
        )
        assert "PLAN.json OUT" in help_text.stderr, help_text.stderr
        print(f"installed: {version.strip()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", help="cargo's profile (default: that of pyproject.toml, release)")
    parser.add_argument("--maturin", default="maturin")
    parser.add_argument("--wheel", help="one that is built")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        wheel = arguments.wheel or build(arguments, out)
        contents(wheel)
        fresh(wheel)


if __name__ == "__main__":
    main()
