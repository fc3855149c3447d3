"""The digest of weights in memory: the checkpoint's where every tensor is its, another one where anything differs."""

import json
import os
import shutil
import unittest

import torch

from . import support
from mantissa_forensics import weights


class Weights(unittest.TestCase):
    def test_unmodified_weights_have_the_digest_that_mantissa_states(self):
        """Also where transformers renames tensors and fuses those of experts, and in another format than stored."""
        for family in support.FAMILIES:
            with self.subTest(family=family):
                stated = support.run_json("inspect", support.folder(family), "--digest")["digest"]["digest"]
                for dtype in ("bf16", "f32"):
                    found = weights.identify(support.load(family, dtype, stored="bf16"))
                    self.assertEqual((found.of, found.digest), ("checkpoint", stated), found.note)

    def test_one_bit_anywhere_is_another_digest(self):
        for family in ("llama", "qwen3_moe", "mixtral", "gpt_oss"):
            model = support.load(family, "bf16")
            for name, parameter in list(model.named_parameters())[:: max(1, len(list(model.parameters())) // 7)]:
                with self.subTest(family=family, name=name), torch.no_grad():
                    flat = parameter.view(-1).view(torch.int16)
                    flat[-1] ^= 1
                    found = weights.identify(model)
                    self.assertEqual(found.of, "memory")
                    self.assertRegex(found.note, "is not what the files hold|is not the embedding")
                    flat[-1] ^= 1
            self.assertEqual(weights.identify(model).of, "checkpoint")

    def test_another_configuration_is_another_model(self):
        model = support.load("llama", "bf16")
        model.config.rms_norm_eps *= 2
        found = weights.identify(model)
        self.assertEqual(
            (found.of, found.note), ("memory", "rms_norm_eps of its configuration is not what config.json says")
        )

    def test_without_files_the_digest_is_that_of_the_tensors(self):
        model = support.load("llama", "bf16")
        model.config._name_or_path = "nobody/nothing"
        a, b = weights.identify(model), weights.identify(model)
        self.assertEqual((a.of, a.digest), ("memory", b.digest))
        with torch.no_grad():
            model.lm_head.weight[0, 0] += 1
        self.assertNotEqual(weights.identify(model).digest, a.digest)

    def test_a_shard_and_an_index(self):
        path = support.new("sharded")
        support.run("--quiet", "synth", "--arch", "llama", "--seed", 1, "--max-shard-bytes", 200000, "--out", path)
        self.assertTrue(os.path.exists(os.path.join(path, "model.safetensors.index.json")))
        import transformers

        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
        stated = support.run_json("inspect", path, "--digest")["digest"]["digest"]
        self.assertEqual(weights.identify(model).digest, stated)

    def test_files_of_another_model_are_no_base(self):
        model = support.load("llama", "bf16")
        other = support.new("other")
        support.run("--quiet", "synth", "--arch", "llama", "--seed", 2, "--out", other)
        self.assertEqual(weights.identify(model, other).of, "memory")
        lacking = support.new("lacking")
        shutil.copytree(support.folder("llama"), lacking)
        with open(os.path.join(lacking, "config.json")) as file:
            config = json.load(file)
        config["num_hidden_layers"] -= 1
        with open(os.path.join(lacking, "config.json"), "w") as file:
            json.dump(config, file)
        self.assertEqual(weights.identify(model, lacking).of, "memory")


if __name__ == "__main__":
    unittest.main()
