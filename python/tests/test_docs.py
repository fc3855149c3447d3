"""docs/capture.md as a new user would try it: its blocks run in order, in an empty folder, but for those of vLLM."""

import json
import os
import re
import subprocess
import sys
import unittest

from . import support


# One interpreter for all blocks, so that later ones go on with what earlier ones defined.
DRIVER = """
import json, subprocess, sys
names = {}
for number, (kind, text) in enumerate(json.load(sys.stdin)):
    print("block", number, flush=True)
    if kind == "python":
        exec(compile(text, f"block {number}", "exec"), names)
    else:
        subprocess.run(["bash", "-ec", text], check=True)
    sys.stdout.flush()
"""


class Docs(unittest.TestCase):
    def test_every_command_runs(self):
        with open(os.path.join(support.ROOT, "docs", "capture.md")) as file:
            blocks = re.findall(r"^```(python|sh)\n(.*?)^```$", file.read(), re.M | re.S)
        self.assertGreater(len(blocks), 8)
        folder = support.new("docs")
        os.makedirs(os.path.join(folder, "bin"))
        os.symlink(support.program(), os.path.join(folder, "bin", "mantissa"))
        path = os.pathsep.join([os.path.join(folder, "bin"), os.path.dirname(sys.executable), os.environ["PATH"]])
        environment = {
            **os.environ,
            "PATH": path,
            "PYTHONPATH": os.path.join(support.ROOT, "python"),
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", DRIVER],
            input=json.dumps(blocks),
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count("block "), len(blocks))
        for words in ("attention=eager", "attention was set to 'sdpa' and 'eager' ran", "not enough evidence", "True"):
            self.assertIn(words, done.stdout)


if __name__ == "__main__":
    unittest.main()
