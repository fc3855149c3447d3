"""`mantissa run` with stock transformers on the CPU as its backend: the program, its plan, and the cells it starts."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from . import support
from mantissa_forensics import cell, container
from mantissa_forensics.errors import CaptureError

PLAN = """
name = "transformers on a CPU"
repetitions = 2
[base]
backend = "transformers"
model = "{model}"
dtype = "f32"
attention = "eager"
[prompt]
documents = ["text.txt", "text.txt"]
tokens = 24
chat_template = false
decode = 2
[signals]
layers = [1, "last"]
[stack.default]
python = "{python}"
[stack.default.environment]
PYTHONPATH = "{path}"
[[experiment]]
name = "batch_size"
vary.batch_size = [3]
[[experiment]]
name = "attention"
vary.attention = ["sdpa"]
[[experiment]]
name = "dtype"
vary.dtype = ["bf16"]
[[experiment]]
name = "streams"
vary.concurrent_streams = [true]
"""


def read(path):
    with open(path) as file:
        return json.load(file)


class Plan(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(dir=support.scratch())
        with open(os.path.join(cls.folder, "text.txt"), "w") as file:
            file.write("\n".join(f"{i * 7919 % 1009} words of line {i}" for i in range(400)))
        words = {"model": support.folder("llama", "f32"), "python": sys.executable}
        words["path"] = os.path.join(support.ROOT, "python")
        cls.plan = os.path.join(cls.folder, "plan.toml")
        with open(cls.plan, "w") as file:
            file.write(PLAN.format(**words))
        cls.out = os.path.join(cls.folder, "out")
        command = [support.program(), "--format", "json", "run", cls.plan, "--out", cls.out]
        cls.done = subprocess.run(command, capture_output=True, text=True, check=False)

    def test_what_runs_is_recorded_and_what_cannot_fails_alone(self):
        # Without a GPU there are no streams: that configuration fails, by name, and no other.
        self.assertEqual(self.done.returncode, 2, self.done.stderr)
        self.assertIn("concurrent_streams_true: error: concurrent streams need a CUDA device", self.done.stderr)
        cells = {c["id"]: c["outcome"] for c in json.loads(self.done.stdout)["cells"]}
        recorded = ["reference", "batch_size_3", "attention_sdpa", "dtype_bf16"]
        self.assertEqual([cells[name]["agreement"]["state"] for name in recorded], ["identical"] * 4)

    def test_outputs_are_evidence(self):
        path = os.path.join(self.out, "attention_experiment.json")
        experiment = read(path)
        values = [c["variable_value"] for c in experiment["configurations"]]
        self.assertEqual(values, ["eager", "sdpa"])
        ids = {tuple(run["mantissa"]["prompt_token_ids"]) for run in experiment["runs"]}
        self.assertEqual(len(ids), 1, "all are fed the same")
        shown = support.run("inspect", path)
        self.assertIn("sdpa", shown)
        compared = json.loads(
            subprocess.run(
                [support.program(), "--format", "json", "compare", os.path.join(self.out, "dtype_experiment.json")],
                capture_output=True,
                text=True,
                check=False,
            ).stdout
        )
        self.assertTrue(compared)

    def test_the_program_s_own_engine_opens_beside_it(self):
        own = os.path.join(self.folder, "own")
        told = read(os.path.join(self.out, ".plan", "reference.json"))
        flags = f"--dtype f32 --reps 1 --decode 2 --layers 1,last --document-tokens 24 --no-chat-template --out {own}"
        document = os.path.join(self.folder, "text.txt")
        support.run("record", "--model", support.folder("llama", "f32"), "--document", document, *flags.split())
        _, _, [run] = container.read(own)
        self.assertEqual(list(run.prompt), told["references"][0]["ids"])


class Spec(unittest.TestCase):
    def test_files_that_are_none_are_refused(self):
        path = os.path.join(support.scratch(), "spec.json")
        for text in ("", "[]", '{"format": "mantissa-cell/9"}'):
            with open(path, "w") as file:
                file.write(text)
            with self.assertRaises(CaptureError):
                cell.read(path)
        self.assertEqual(cell.main([path, "out"]), 2)
        self.assertEqual(cell.main([]), 2)

    def test_a_backend_of_another_program_is_refused(self):
        with self.assertRaises(CaptureError):
            cell.run({"backend": "mantissa"}, support.new("out"))


if __name__ == "__main__":
    unittest.main()
