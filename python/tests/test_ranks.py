"""Two ranks of transformers on a CPU (gloo), tensor or expert parallel: heads side by side, one digest, one setup."""

import os
import subprocess
import sys
import unittest

import numpy as np

from . import support
from mantissa_forensics import record
from mantissa_forensics.container import read

SCRIPT = """
import os, sys
sys.path.insert(0, {python!r})
import torch.distributed as dist
from tests import support
from mantissa_forensics import record
dist.init_process_group("gloo")
model = support.load("llama", "f32", tp_plan="auto")
out = sys.argv[1] + (f".rank{{dist.get_rank()}}" if dist.get_rank() else "")
record(model, [support.ids(16)], out, decode=2, repetitions=2, sites=["q", "k", "v", "x_out"], expect={{"tp_size": 2}})
dist.destroy_process_group()
"""

EXPERTS = """
import os, sys
sys.path.insert(0, {python!r})
import torch.distributed as dist
from transformers.distributed import DistributedConfig
from tests import support
from mantissa_forensics import record
dist.init_process_group("gloo")
model = support.load("qwen3_moe", "f32", distributed_config=DistributedConfig(tp_size=2, enable_expert_parallel=True))
out = sys.argv[1] + (f".rank{{dist.get_rank()}}" if dist.get_rank() else "")
expect = {{"tp_size": 1, "ep_size": 2}}
record(model, [support.ids(16)], out, decode=2, repetitions=2, sites=["q", "mlp_out", "x_out"], expect=expect)
dist.destroy_process_group()
"""

WHOLE = """
import os, sys
sys.path.insert(0, {python!r})
import torch, torch.distributed as dist
from tests import support
from mantissa_forensics.weights import _parts, _whole
dist.init_process_group("gloo")
model = support.load("qwen3_moe", "f32", tp_plan="auto")
packed = [tensor for name, tensor in model.state_dict().items() if name.endswith("gate_up_proj")]
assert packed and all(tensor.placements[0].split_factor == 2 for tensor in packed), packed
one = support.load("qwen3_moe", "f32").state_dict()
whole, _ = _parts(model)
assert all(torch.equal(tensor, one[name]) for name, tensor in whole.items())
dist.destroy_process_group()
"""


class Ranks(unittest.TestCase):
    def _two(self, script, family, out):
        folder, path = support.folder(family, "f32"), support.new("ranks.py")
        with open(path, "w") as file:
            file.write(script.format(python=os.path.join(support.ROOT, "python")))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MANTISSA": support.program()}
        environment["MANTISSA_TEST_MODELS"] = os.path.dirname(folder)
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "--master-port",
            "29577",
            path,
            out,
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])

    def test_experts_over_two_ranks(self):
        out, alone = support.new("experts"), support.new("alone")
        self._two(EXPERTS, "qwen3_moe", out)
        model = support.load("qwen3_moe", "f32")
        record(model, [support.ids(16)], alone, decode=2, repetitions=1, sites=["q", "mlp_out", "x_out"])
        (mine, _, [a]), (theirs, [two], [b]) = read(alone), read(out)
        self.assertEqual([two["fixed_params"][axis] for axis in ("tp_size", "ep_size")], [1, 2])
        self.assertTrue(two["config_id"].endswith("_ep2"), two["config_id"])
        self.assertEqual(mine["mantissa"]["weights_digest"], theirs["mantissa"]["weights_digest"])
        for site, tensor in a.phases["decode"].tensors.items():
            x, y = (t.bits.view(np.float32) for t in (tensor, b.phases["decode"].tensors[site]))
            self.assertLess(np.abs(x - y).max() / np.abs(x).max(), 1e-5, site)

    def test_weights_of_two_ranks_are_put_together(self):
        self._two(WHOLE, "qwen3_moe", support.new("whole"))

    def test_two_ranks_of_transformers(self):
        out, alone = support.new("ranks"), support.new("alone")
        self._two(SCRIPT, "llama", out)
        model = support.load("llama", "f32")
        record(model, [support.ids(16)], alone, decode=2, repetitions=1, sites=["q", "k", "v", "x_out"])
        (mine, _, [a]), (theirs, [two], [b]) = read(alone), read(out)
        self.assertEqual(two["fixed_params"]["tp_size"], 2)
        self.assertEqual(mine["mantissa"]["weights_digest"], theirs["mantissa"]["weights_digest"])
        for site, tensor in a.phases["decode"].tensors.items():
            x, y = (t.bits.view(np.float32) for t in (tensor, b.phases["decode"].tensors[site]))
            self.assertEqual(x.shape, y.shape, site)
            self.assertLess(np.abs(x - y).max() / np.abs(x).max(), 1e-5, site)
        self.assertTrue(read(out + ".rank1")[2][0].signals_digest() == b.signals_digest())


if __name__ == "__main__":
    unittest.main()
