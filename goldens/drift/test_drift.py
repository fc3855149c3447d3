"""Whether the suite itself is right: bugs are where they say and leave nothing behind, and answers are counted rightly.

    MANTISSA=PROGRAM python3 -m unittest discover goldens/drift
"""

import copy
import json
import os
import stat
import tempfile
import unittest

import numpy as np
import torch

import bugs
import models
import planted
import suite


class Bugs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        planted.quiet()
        cls.scratch = tempfile.TemporaryDirectory()
        cls.mantissa = planted.program(os.environ.get("MANTISSA", "mantissa"))
        cls.shop = planted.Workshop(cls.mantissa, cls.scratch.name, 1)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def logits(self, model):
        ids = torch.arange(20)[None] * 37 % models.VOCABULARY
        with torch.no_grad():
            first = model(input_ids=ids, use_cache=True)
            then = model(input_ids=ids[:, :1], past_key_values=first.past_key_values)
        return torch.cat([first.logits[0], then.logits[0]])

    def test_bugs_are_gone_when_closed(self):
        """Every variant changes what the model computes while it is open, and nothing afterwards."""
        # A few roundings of one layer alone may leave all logits as they are.
        faint = ("1e-5", "1e-3")
        for family in (*models.FAMILIES, models.GPTQ):
            model = models.load(models.folder(self.mantissa, self.shop.models, family, 1))
            before = self.logits(model)
            for kind, bug in {**bugs.LISTED, **bugs.UNLISTED}.items():
                for variant in bug.variants_of(family) if family in bug.families else ():
                    with self.subTest(family=family, kind=kind, variant=variant):
                        with bug.plant(bugs.At(model, 2, np.random.default_rng(1)), variant):
                            inside = self.logits(model)
                        self.assertTrue(torch.equal(before, self.logits(model)))
                        if not variant.endswith(faint):
                            self.assertFalse(torch.equal(before, inside))

    def test_first_ranks_are_the_routers_own(self):
        model = models.load(models.folder(self.mantissa, self.shop.models, "qwen3_moe", 1))
        router = model.model.layers[1].mlp.gate
        x = torch.from_numpy(np.random.default_rng(1).standard_normal((9, router.hidden_dim))).bfloat16()
        with torch.no_grad():
            logits, weights, experts = router(x)
        own, also = bugs._chosen(router, logits, range(router.top_k))
        self.assertTrue(torch.equal(own, weights) and torch.equal(also, experts))

    def test_a_seed_decides_a_case(self):
        """The same case again has the same signals and the same truth; another seed has others."""
        [case] = planted.every("rope-position-qwen2-middle-2")
        digests, truths = [], []
        for seed in (1, 1, 2):
            self.shop.seed = seed
            truths.append(self.shop.make(case))
            with open(os.path.join(self.scratch.name, case.name, "manifest.json")) as file:
                digests.append(json.load(file)["runs"][0]["mantissa"]["signals_digest"])
        self.assertEqual((digests[0], truths[0]), (digests[1], truths[1]))
        self.assertNotEqual(digests[0], digests[2])

    def test_decoded_gptq_is_what_the_program_decodes(self):
        """Before the suite judges a bug in scales, honest weights are those of goldens/quantized.py."""
        from quantized import gptq, modules, tensors

        path = models.folder(self.mantissa, self.shop.models, models.GPTQ, 1)
        stored, model = tensors(path), models.load(path)
        names = modules(stored, ".qweight")
        self.assertEqual(len(names), 7 * models.SHAPES[1][0])
        for name in names:
            layer = model.get_submodule(name)
            own = layer.weight_of(torch.arange(len(layer.scales)))
            self.assertTrue(torch.equal(own, gptq(stored, name)), name)


def pair(layer, position, answer, smallest=None, point="attn_out"):
    return {"layer": layer, "point": point, "position": position, "answer": answer, "smallest": smallest}


TRUTH = {"case": "case", "model": "model", "honest": False, "kind": "mask_off_by_one", "layer": 3, "point": "attn_out"}
TRUTH["effect"] = {"positions": [{"position": p, "distance": 0.01} for p in (4, 5)], "largest": 0.01}
HONEST = {"case": "case", "model": "model", "honest": True}


class Judging(unittest.TestCase):
    def judged(self, truth, code, pairs, hypotheses=()):
        """What the suite makes of a program that prints this."""
        counts = {name: sum(p["answer"] == name for p in pairs) for name in ("equal", "within_rounding", "unexplained")}
        said = {"counts": {"pairs": len(pairs), **counts}, "pairs": pairs, "hypotheses": list(hypotheses)}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "mantissa")
            with open(path, "w") as file:
                file.write(f"#!/bin/sh\ncat <<'END'\n{json.dumps(said)}\nEND\nexit {code}\n")
            os.chmod(path, os.stat(path).st_mode | stat.S_IEXEC)
            return suite.judge(path, copy.deepcopy(truth), "case")

    def outcome(self, *arguments, **more):
        return self.judged(*arguments, **more).outcome

    def test_planted(self):
        wrong = [pair(3, 4, "unexplained"), pair(3, 5, "unexplained")]
        named = lambda name, layer, answer="equal": [{"name": name, "layer": layer, "answer": answer}]
        self.assertEqual(self.outcome(TRUTH, 1, wrong, named("mask_off_by_one", 3)), "right")
        self.assertEqual(self.outcome(TRUTH, 1, wrong, named("mask_off_by_one", 2)), "other")
        self.assertEqual(self.outcome(TRUTH, 1, wrong, named("rope_base", 3)), "other")
        self.assertEqual(self.outcome(TRUTH, 1, wrong, named("mask_off_by_one", 3, "unexplained")), "none")
        self.assertEqual(self.outcome(TRUTH, 1, wrong), "none")
        self.assertEqual(self.outcome(TRUTH, 1, [pair(2, 4, "unexplained")]), "wrong")
        self.assertEqual(self.judged(TRUTH, 1, [*wrong, pair(4, 4, "unexplained")]).elsewhere, 1)
        # The flow of data decides what is first, not the order of pairs.
        first = pair(4, 0, "unexplained")
        self.assertEqual(self.outcome(TRUTH, 1, [first, *wrong], named("mask_off_by_one", 3)), "right")
        self.assertEqual(self.outcome(TRUTH, 1, [*wrong, pair(None, 9, "unexplained", point="embed_out")]), "wrong")
        # An exit code that contradicts the answer.
        self.assertEqual(self.outcome(TRUTH, 0, wrong), "wrong")
        self.assertEqual(self.outcome(TRUTH, 2, []), "wrong")

    def test_within_rounding(self):
        quiet = lambda *smallest: [pair(3, 4 + i, "within_rounding", s) for i, s in enumerate(smallest)]
        self.assertEqual(self.outcome(TRUTH, 0, quiet(0.02, 0.02)), "rounding")
        self.assertEqual(self.outcome(TRUTH, 0, quiet(0.02, 0.005)), "wrong")
        self.assertEqual(self.outcome(TRUTH, 0, quiet(0.02, None)), "wrong")
        self.assertEqual(self.outcome(TRUTH, 0, quiet(0.02)), "wrong")
        self.assertEqual(self.outcome(TRUTH, 0, [*quiet(0.02), pair(3, 5, "explained")]), "explained")

    def test_honest(self):
        self.assertEqual(self.outcome(HONEST, 0, [pair(1, 0, "within_rounding", 0.1)]), "quiet")
        self.assertEqual(self.outcome(HONEST, 1, [pair(1, 0, "unexplained")]), "alarm")
        self.assertEqual(self.outcome(HONEST, 2, []), "failed")

    def test_table(self):
        honest = suite.Judgement(HONEST, "quiet", "", {"pairs": 4, "equal": 4})
        more = {"listed": True, "patched": "sees one key more"}
        bad = suite.Judgement(TRUTH | more, "wrong", "why", {}, 2)
        text = suite.table([honest, bad], "title")
        self.assertIn("| 1 | 0 | 0 | 4 | equal 4 |", text)
        self.assertIn("| mask_off_by_one | 1 | 0 | 0 | 0 | 0 | 0 | 1 | 1 |", text)
        self.assertIn("- case (sees one key more; effect 1.0e-02): wrong, why", text)


if __name__ == "__main__":
    unittest.main()
