"""A knob that was set and took no effect fails the run: one is planted for every axis."""

import os
import unittest
from unittest import mock

import torch

from . import support
from mantissa_forensics import Capture, CaptureError, KnobError, observe, record
from mantissa_forensics.streams import Beside


class Knobs(unittest.TestCase):
    def setUp(self):
        self.model = support.load("llama")
        self.prompts = [support.ids(12), support.ids(12, 1)]

    def fails(self, axis, ran, model=None, prompts=None, expect=None, **more):
        """Nothing is written, and the error names axis, wish and truth."""
        model, out = self.model if model is None else model, support.new("never")
        with Capture(model, **more) as capture:
            support.decode(model, prompts or self.prompts, steps=1)
        capture.expect = {axis: expect}
        with self.assertRaises(KnobError) as caught:
            capture.save(out)
        self.assertEqual((caught.exception.axis, str(caught.exception.observed)), (axis, str(ran)))
        self.assertFalse(os.path.exists(out))

    def test_every_axis_is_planted(self):
        """Each axis that can be expected has a test here."""
        tests = {name.removeprefix("test_axis_") for name in dir(self) if name.startswith("test_axis_")}
        self.assertEqual(tests, set(observe.AXES))

    def test_what_took_effect_passes(self):
        expect = {"dtype": "float32", "attention": "eager", "compile": False, "quantization": "none", "batch_size": 2}
        expect |= {"tp_size": 1, "device": "cpu", "cache": "dynamic", "padding": "none", "concurrent_streams": False}
        with Capture(self.model, expect=expect) as capture:
            support.decode(self.model, self.prompts, steps=1)
        self.assertTrue(os.path.exists(capture.save(support.new("capture"))))

    def test_an_axis_that_is_none(self):
        self.fails("atention", "nothing", expect="eager")

    def test_axis_dtype(self):
        # Asked for bf16, and the loader was given a dtype that it ignored.
        self.fails("dtype", "f32", expect="bfloat16")

    def test_axis_attention(self):
        # The configuration says sdpa, and something calls eager all the same.
        model = support.load("llama", attn_implementation="sdpa")
        module = observe.sys.modules[type(model).__module__]
        real = module.ALL_ATTENTION_FUNCTIONS.get_interface
        ignoring = lambda name, default: default if name == "sdpa" else real(name, default)
        with mock.patch.object(module.ALL_ATTENTION_FUNCTIONS, "get_interface", ignoring, create=True):
            self.fails("attention", "eager", model=model, expect="sdpa")
        # And an honest sdpa is seen as that.
        with Capture(model, expect={"attention": "sdpa"}) as capture:
            support.decode(model, self.prompts, steps=1)
        capture.save(support.new("sdpa"))

    def test_axis_compile(self):
        self.fails("compile", False, expect=True)
        # torch.compile was called, and is switched off.
        compiled = torch.compile(self.model, backend="eager")
        with Capture(compiled, expect={"compile": True}, sites=["logits"]) as capture:
            support.decode(compiled, self.prompts, steps=1)
        capture.save(support.new("compiled"))
        with torch._dynamo.config.patch(disable=True):
            self.fails("compile", False, model=compiled, expect=True, sites=["logits"])

    def test_axis_quantization(self):
        # A configuration that nobody acted on.
        self.model.config.quantization_config = {"quant_method": "awq", "bits": 4}
        self.fails("quantization", "none", expect="awq")

    def test_quantized_layers_are_seen(self):
        try:
            import bitsandbytes
        except ImportError:
            self.skipTest("bitsandbytes is not installed")
        linear = torch.nn.Linear(64, 64)
        quantized = bitsandbytes.nn.Linear4bit(64, 64, quant_type="nf4")
        self.assertEqual(observe.quantization_of(linear), "none")
        self.assertEqual(observe.quantization_of(quantized), "bnb-nf4")
        self.model.model.layers[1].mlp.up_proj = quantized
        facts = observe.model_facts(self.model)
        self.assertEqual(facts["quantization"], "bnb-nf4")
        self.assertEqual(facts["layers"]["model.layers.1.mlp.up_proj"], "bnb-nf4")
        self.assertEqual(facts["layers"]["model.layers.0.mlp.up_proj"], "none")
        self.assertEqual(facts["layers"]["model.layers.*.mlp.down_proj"], "none")

    def test_axis_batch_size(self):
        # Two sequences were to share a pass, and a loop fed them one by one.
        self.fails("batch_size", 1, prompts=self.prompts[:1], expect=2)

    def test_axis_concurrent_streams(self):
        # A load beside it that never overlapped, as on a machine with one stream.
        class Idle:
            overlapped = False

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

        out = support.new("never")
        with self.assertRaises(KnobError) as caught:
            record(self.model, self.prompts, out, decode=1, repetitions=1, beside=Idle())
        self.assertEqual(caught.exception.axis, "concurrent_streams")
        self.assertFalse(os.path.exists(os.path.join(out, "manifest.json")))

    def test_a_load_that_cannot_begin_is_an_error(self):
        # Its thread ended before the first product, and whoever had started it waited for ever.
        with mock.patch("mantissa_forensics.streams.torch.cuda") as cuda, mock.patch("torch.randn"):
            cuda.current_device.return_value = 0
            cuda.set_device.side_effect = ValueError("no such device")
            load = Beside()
            self.assertEqual(load.device.index, 0)
            with self.assertRaisesRegex(CaptureError, "no such device"), load:
                self.fail("entered")

    def test_axis_tp_size(self):
        # Four ranks were asked for, and the process is alone.
        with mock.patch.dict(os.environ, {"WORLD_SIZE": "4"}):
            self.fails("tp_size", 1, expect=4)

    def test_axis_ep_size(self):
        self.fails("ep_size", 1, expect=2)

    def test_axis_device(self):
        self.fails("device", "cpu", expect="cuda")

    def test_axis_cache(self):
        # A static cache was configured, and a forward loop made a dynamic one.
        self.model.generation_config.cache_implementation = "static"
        self.fails("cache", "dynamic", expect="static")

    def test_axis_padding(self):
        self.fails("padding", "none", expect="left")


if __name__ == "__main__":
    unittest.main()
