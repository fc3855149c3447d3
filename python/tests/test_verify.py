"""Evidence of a GPU through the package's writer: the program gives the verdict, and says what it cannot check.

The signals are those that stock transformers left on an H200 (goldens/gpu/evidence_h200); a CPU cannot make them. Here
they are written again as the package writes a capture. The whole way, from the GPU on, is
goldens/gpu/capture_package.py.
"""

import copy
import os
import unittest

from . import support
from mantissa_forensics import container
from mantissa_forensics.evidence import log_softmax_recipe

H200 = os.path.join(support.ROOT, "goldens", "gpu", "evidence_h200")


def model():
    path = os.path.join(os.environ.get("MANTISSA_TEST_MODELS") or support.scratch(), "smollm2-135m")
    if not os.path.exists(path):
        support.run("--quiet", "synth", "--arch", "llama", "--preset", "smollm2-135m", "--out", path)
    return path


def written(change=lambda configuration: None, batch=4):
    """One configuration of the golden, with what a capture observes, `change`d."""
    metadata, configurations, runs = container.read(H200)
    [configuration] = [copy.deepcopy(c) for c in configurations if c["mantissa"]["setup"]["batch_size"] == batch]
    runs = [run for run in runs if run.config_id == configuration["config_id"] and len(run.prompt) == 312]
    extras = configuration["mantissa"]
    extras["reproducibility"]["digests"] = [
        d for d in extras["reproducibility"]["digests"] if d["reference_id"] == runs[0].reference
    ]
    extras["observed"] = {
        "axes": {"attention": "eager"},
        "versions": {"torch": "2.11.0", "cublas": "13.1.0"},
        "devices": [{"device": "cuda:0", "name": "NVIDIA H200", "clusters": None}],
        "layers": {},
        "kernels": [{"name": "gemvx::kernel", "launches": 60}],
        "notes": [],
    }
    change(configuration)
    out = support.new("h200")
    # Prompts of the other length stay behind.
    container.write(out, {**metadata, "sequence_length": len(runs[0].prompt)}, [configuration], runs)
    return out


class Verify(unittest.TestCase):
    def test_the_batch_size_that_ran_and_no_other(self):
        shown = support.run("verify", written(), "--model", model(), "--vary", "batch_size=4,5")
        self.assertRegex(shown, "consistent")
        shown = support.run(
            "verify", written(), "--model", model(), "--claim", "batch_size=5", "--vary", "batch_size=4", code=1
        )
        self.assertIn("contradicted", shown)

    def test_what_has_no_recipes_is_not_checked(self):
        def other(path, value):
            def change(configuration):
                place = configuration["mantissa"]
                for key in path[:-1]:
                    place = place.setdefault(key, {})
                place[path[-1]] = value

            return change

        cases = [
            (other(["observed", "versions", "cublas"], "12.4.5"), "made with cuBLAS 12.4.5, and recipes of 13.1.0"),
            (other(["setup", "axes", "cache"], "static"), "there are no recipes for cache 'static'"),
            (other(["setup", "axes", "adapter"], "x over y"), "there are no recipes for adapter 'x over y'"),
        ]
        for change, words in cases:
            with self.subTest(words=words):
                self.assertIn(words, support.run("verify", written(change), "--model", model(), code=3))

    def test_the_log_softmax_that_is_stated_is_the_one_that_a_gpus_record_states(self):
        document, out = support.new("document.txt"), support.new("record")
        with open(document, "w") as file:
            file.write("roundings differ. " * 200)
        support.run(
            *("--quiet", "record", "--model", model(), "--document", document, "--out", out, "--hardware", "h200"),
            *("--document-tokens", 16, "--no-chat-template", "--decode", 1, "--reps", 1, "--positions=-1"),
        )
        _, [configuration], [run] = container.read(out)
        stated = [k["recipe"] for k in configuration["mantissa"]["recipes"] if k["op"] == "log_softmax"]
        self.assertEqual(stated[0], log_softmax_recipe(run.phases["decode"].logprobs.vocab_size))

    def test_the_boundaries_between_pytorchs_kernels(self):
        """Constants of crates/numerics/src/nvidia/softmax.rs: 2,048; 9 · 1,024; (49,152 - 128) / 4."""
        kinds = [log_softmax_recipe(n) and set(log_softmax_recipe(n)["reduction"]) for n in (2048, 9216, 12252, 12256)]
        self.assertEqual(kinds, [{"warp"}, {"block"}, {"vector", "threads"}, {"vector", "threads", "shifted"}])
        self.assertIsNone(log_softmax_recipe(32001), "its rows begin at addresses of all kinds")


if __name__ == "__main__":
    unittest.main()
