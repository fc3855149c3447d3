"""Every site of every family: hooks change no bit, and what they keep is what the engine means by the site."""

import unittest

import numpy as np
import torch

from . import support
from mantissa_forensics import Capture, CaptureError
from mantissa_forensics.container import FORMATS


def values(tensor):
    """Bits as binary32 values."""
    if tensor.dtype == "bf16":
        return (tensor.bits.astype(np.uint32) << 16).view(np.float32)
    return tensor.bits.view({"f32": np.float32, "f16": np.float16}[tensor.dtype]).astype(np.float32)


class Sites(unittest.TestCase):
    def test_hooks_change_no_bit(self):
        for family in support.FAMILIES:
            for dtype in ("f32", "bf16"):
                with self.subTest(family=family, dtype=dtype):
                    model = support.load(family, dtype, stored="bf16")
                    prompts = [support.ids(17), support.ids(17, 1)]
                    plain = support.decode(model, prompts)
                    with Capture(model, layers="all", sites="all") as capture:
                        seen = support.decode(model, prompts)
                    after = support.decode(model, prompts)
                    for a, b, c in zip(plain, seen, after):
                        self.assertTrue(torch.equal(a, b) and torch.equal(a, c))
                    self.assertFalse(model._forward_hooks or model._forward_pre_hooks)
                    runs = capture._runs(capture.conversations[0])
                    self.assertEqual(set(runs[1].phases["decode"].tensors), set(capture.sites))

    def test_sites_are_those_of_mantissas_engine(self):
        """Orders of sums differ, so values agree to about 1e-6 of the largest; another site is further off by far."""
        for family in support.FAMILIES:
            with self.subTest(family=family):
                ours, prompt, output = recorded(family)
                model = support.load(family, "f32")
                with Capture(model, layers="all", sites="all", positions=[-2, -1]) as capture, torch.no_grad():
                    out = model(input_ids=torch.tensor([prompt]), use_cache=True)
                    for token in output:
                        out = model(input_ids=torch.tensor([[token]]), past_key_values=out.past_key_values)
                [run] = capture._runs(capture.conversations[0])
                for phase in ("prefill", "decode"):
                    theirs = run.phases[phase].tensors
                    self.assertEqual(set(theirs), set(ours[phase].tensors))
                    for site, tensor in ours[phase].tensors.items():
                        a, b = values(tensor), values(theirs[site])
                        self.assertEqual(a.shape, b.shape, site)
                        self.assertLess(np.abs(a - b).max() / np.abs(a).max(), 1e-5, f"{phase} {site}")

    def test_what_is_not_known_is_refused_by_name(self):
        from transformers import GPT2Config, GPT2LMHeadModel

        model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=16, n_positions=8))
        with self.assertRaisesRegex(CaptureError, "'gpt2' are not known; known are llama"):
            Capture(model)
        olmo = support.load("olmo2")
        with self.assertRaisesRegex(CaptureError, "no block chosen has the point 'ffn_norm'"):
            Capture(olmo, sites=["ffn_norm"])
        with self.assertRaisesRegex(CaptureError, "no block chosen has the point 'router_logits'"):
            Capture(olmo, sites=["router_logits"])
        with self.assertRaisesRegex(CaptureError, "there is no layer 99"):
            Capture(olmo, layers=[99])
        with self.assertRaisesRegex(CaptureError, "unknown point 'queries'"):
            Capture(olmo, sites=["queries"])
        deepseek = support.load("deepseek_v2")
        with self.assertRaisesRegex(CaptureError, "'deepseek_v2' are not known"):
            Capture(deepseek)

    def test_mixed_layers_of_experts_and_dense_ones(self):
        """A point that some blocks have is kept there, and asked for by its site where there is none it is refused."""
        model = support.load("qwen3_moe")
        dense = [n for n, block in enumerate(model.model.layers, 1) if not hasattr(block.mlp, "gate")]
        capture = Capture(model, layers="all", sites=["router_topk"])
        self.assertEqual(len(capture.sites), len(model.model.layers) - len(dense))
        for layer in dense:
            with self.assertRaisesRegex(CaptureError, f"no site layer_{layer}.router_topk"):
                Capture(model, sites=[f"layer_{layer}.router_topk"])


def recorded(family):
    """What `mantissa record` keeps of the same weights."""
    from mantissa_forensics import container

    document, out = support.new("document.txt"), support.new("record")
    with open(document, "w") as file:
        file.write("\n".join(f"{(i * 7919) % 10007} roundings differ from {(i * 31) % 997}." for i in range(200)))
    model = support.load(family, "f32")
    has = Capture(model, layers="all", sites="all").sites
    points = sorted({site.split(".")[-1] for site in has})
    layers = ",".join(str(i + 1) for i in range(len(model.model.layers)))
    support.run(
        *("--quiet", "record", "--model", support.folder(family, "f32"), "--document", document, "--out", out),
        *("--document-tokens", 24, "--no-chat-template", "--instruction", "", "--decode", 3, "--dtype", "f32"),
        *("--reps", 1, "--positions=-2,-1", "--layers", layers, "--sites", ",".join(points)),
    )
    _, _, [run] = container.read(out)
    assert all(t.dtype in FORMATS for t in run.phases["decode"].tensors.values())
    return run.phases, run.prompt, run.output


if __name__ == "__main__":
    unittest.main()
