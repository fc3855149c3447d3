"""`mantissa verify --replay-with transformers`: candidates replayed by stock transformers, judged by the program."""

import json
import subprocess
import sys
import tempfile
import unittest

from . import support
from mantissa_forensics import record
from mantissa_forensics.prompts import Prompt, Prompts


class Replayed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.evidence = support.new("evidence")
        beside = [Prompt(support.ids(20, seed=seed)) for seed in (1, 2)]
        prompts = Prompts([Prompt(support.ids(20))], [beside])
        model = support.load("llama", "bf16")
        path = support.folder("llama", "bf16")
        record(model, prompts, cls.evidence, batch_size=3, decode=3, repetitions=1, top_k=0, checkpoint=path)

    def verify(self, *more, model=None, code=0):
        command = [support.program(), "--format", "json", "verify", self.evidence, "--replay-with", "transformers"]
        command += ["--model", model or support.folder("llama", "bf16"), "--python", sys.executable]
        command += ["--replay-folder", tempfile.mkdtemp(dir=support.scratch()), *more]
        environment = {**__import__("os").environ, "PYTHONPATH": f"{support.ROOT}/python"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        self.assertEqual(done.returncode, code, done.stderr or done.stdout)
        return json.loads(done.stdout) if done.stdout else done.stderr

    def test_what_ran_fits_and_other_setups_are_told_apart(self):
        audit = self.verify("--vary", "attention=eager,sdpa", "--vary", "dtype=bf16,f32", "--vary", "batch_size=1,3")
        [claim] = audit["claims"]
        self.assertEqual((claim["answer"], claim["tier"]), ("consistent", "exact"))
        states = {replay["class"][0]: replay["state"] for replay in claim["replays"]}
        self.assertEqual(len(states), 8)
        self.assertEqual(states["torch-cpu_bs3_eager_bf16"], "equal")
        self.assertIn("different", {states[name] for name in states if name.endswith("sdpa_bf16")})
        self.assertTrue(any("Replayed by transformers" in note for note in audit["notes"]))

    def test_a_false_claim_is_contradicted(self):
        [claim] = self.verify("--claim", "attention=sdpa", "--vary", "attention=eager", code=1)["claims"]
        self.assertEqual(claim["answer"], "contradicted")
        self.assertIn(["torch-cpu_bs3_eager_bf16"], claim["fits"])

    def test_what_it_cannot_set_is_refused(self):
        said = self.verify("--vary", "tp_size=1,2", code=2)
        self.assertIn("--replay-with cannot set tp_size; it sets batch_size, attention and dtype", said)


if __name__ == "__main__":
    unittest.main()
