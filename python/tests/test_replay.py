"""Replay by forced decode: the same machine and setup leave the same bits, another batch size is told apart."""

import json
import os
import subprocess
import sys
import unittest

from . import support
from mantissa_forensics import CaptureError, container, record
from mantissa_forensics.container import read
from mantissa_forensics.replay import plan_of, replay


class Replay(unittest.TestCase):
    def test_candidates(self):
        folder, evidence, out = support.folder("llama"), support.new("evidence"), support.new("replayed")
        model = support.load("llama", "bf16")
        record(model, [support.ids(16), support.ids(16, 1)], evidence, batch_size=2, decode=4, repetitions=2)
        plan = plan_of(evidence, folder, [{"batch_size": 2}, {"batch_size": 1}, {"batch_size": 3}])
        path = support.new("plan.json")
        with open(path, "w") as file:
            json.dump(plan, file)
        command = [sys.executable, "-m", "mantissa_forensics.replay", path, out]
        more = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "cwd": os.path.join(support.ROOT, "python")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        mine, theirs = read(evidence)[2], read(out)[2]
        self.assertEqual([len(r.neighbours) for r in theirs], [1, 1, 0, 0, 2, 2])
        same = [run for run in theirs if len(run.neighbours) == 1]
        for a, b in zip(mine, sorted(same, key=lambda run: run.prompt != mine[0].prompt)):
            self.assertEqual((a.prompt, a.output), (b.prompt, b.output))
            self.assertEqual(a.signals_digest(), b.signals_digest())
        support.run("inspect", out)
        # Exit code 1: classes differ, if any batch size leaves other bits, which is the processor's business.
        support.run("compare", evidence, out, code=(0, 1))
        wrong = {**plan, "candidates": [{"tp_size": 2, "dtype": "bf16", "attention": "eager"}]}
        with open(path, "w") as file:
            json.dump(wrong, file)
        done = subprocess.run(
            [*command[:-1], support.new("never")], capture_output=True, text=True, check=False, **more
        )
        self.assertIn("error: candidate 0 sets tp_size; a replay can set attention", done.stderr)

    def test_all_positions(self):
        folder, evidence, out = support.folder("llama"), support.new("evidence"), support.new("replayed")
        prompts = [support.ids(16), support.ids(9, 1)]
        record(support.load("llama", "bf16"), prompts, evidence, positions="all", decode=3, repetitions=1)
        plan = plan_of(evidence, folder, [{"batch_size": 1}], repetitions=1)
        replay(plan, out)
        mine, theirs = read(evidence)[2], read(out)[2]
        self.assertEqual([len(run.phases["prefill"].positions) for run in theirs], [16, 9])
        self.assertEqual([run.signals_digest() for run in mine], [run.signals_digest() for run in theirs])
        # Positions that no capture takes.
        metadata, configurations, runs = read(evidence)
        for run in runs:
            phase = run.phases["prefill"]
            phase.positions = phase.positions[1:]
            for part in [*phase.tensors.values()]:
                part.bits = part.bits[:, 1:]
            phase.logprobs.token_ids, phase.logprobs.log_probs = (
                bits[:, 1:] for bits in (phase.logprobs.token_ids, phase.logprobs.log_probs)
            )
        other = support.new("other")
        container.write(other, metadata, configurations, runs)
        with self.assertRaisesRegex(CaptureError, "prompts and decode steps have different positions"):
            plan_of(other, folder, [{"batch_size": 1}])


if __name__ == "__main__":
    unittest.main()
