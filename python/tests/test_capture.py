"""Whose rows are kept: padding, generate, static caches, chunks, adapters, threads of tokens; and what is refused."""

import unittest
from unittest import mock

import numpy as np
import torch
import transformers

from . import support
from mantissa_forensics import Capture, CaptureError
from mantissa_forensics.evidence import Experiment

GREEDY = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None}


def runs_of(capture):
    return [run for _, runs in capture.batches() for run in runs]


def bits(run, phase, site):
    return run.phases[phase].tensors[site].bits


class Generate(unittest.TestCase):
    def setUp(self):
        self.model = support.load("llama")

    def test_tokens_are_those_of_generate(self):
        prompts = torch.tensor([support.ids(12), support.ids(12, 1)])
        with Capture(self.model) as capture:
            out = self.model.generate(input_ids=prompts, max_new_tokens=6, **GREEDY)
        runs = runs_of(capture)
        for row, run in enumerate(runs):
            self.assertEqual(run.prompt, prompts[row].tolist())
            # The last token is chosen and never fed.
            self.assertEqual(run.output, out[row, 12:-1].tolist())
            self.assertEqual([n.output for n in run.neighbours], [out[1 - row, 12:-1].tolist()])
            self.assertEqual(run.phases["decode"].positions, [-1])
            self.assertIsNone(run.phases["prefill"].logprobs, "generate computed the last position's alone")
            # The best candidate after each step is the next token.
            best = run.phases["decode"].logprobs.token_ids[:, 0, 0].tolist()
            self.assertEqual(best, out[row, 13:].tolist())
        self.assertTrue(all(capture.conversations[0].is_greedy(i, 5) for i in range(2)))

    def test_caches_are_not_kept_alive(self):
        import gc
        import weakref

        with Capture(self.model) as capture:
            caches = []
            for _ in range(3):
                with torch.no_grad():
                    out = self.model(input_ids=torch.tensor([support.ids(12)]), use_cache=True)
                caches.append(weakref.ref(out.past_key_values))
            del out
            gc.collect()
            self.assertEqual([cache() is None for cache in caches], [True, True, False], "the last one may go on")
        gc.collect()
        self.assertIsNone(caches[2]())
        self.assertEqual(len(runs_of(capture)), 3)

    def test_sampled_tokens_are_not_called_greedy(self):
        torch.manual_seed(0)
        with Capture(self.model) as capture:
            prompts = torch.tensor([support.ids(12)])
            self.model.generate(input_ids=prompts, max_new_tokens=8, do_sample=True, temperature=5.0, pad_token_id=0)
        setup = Experiment(capture).assemble(capture.batches())[1][0]["mantissa"]["setup"]
        self.assertEqual(setup["decoding"], "sampled")
        drawn = {name: setup["generation"][name] for name in ("do_sample", "temperature", "top_k")}
        self.assertEqual(drawn, {"do_sample": True, "temperature": 5.0, "top_k": 50})

    def test_settings_are_those_that_generate_applied(self):
        prompts = torch.tensor([support.ids(12)])
        self.model.generation_config.update(repetition_penalty=1.7, top_k=-1, eos_token_id=3)

        class Own(transformers.LogitsProcessor):
            def __call__(self, input_ids, scores):
                return scores

        calls = [
            ({}, {"repetition_penalty": 1.7, "eos_token_id": [3]}),
            ({"repetition_penalty": 1.0, "eos_token_id": None}, {"ignore_eos": True}),
            (
                {"min_new_tokens": 6, "no_repeat_ngram_size": 2, "suppress_tokens": [5]},
                {"repetition_penalty": 1.7, "eos_token_id": [3], "min_new_tokens": 6, "no_repeat_ngram_size": 2}
                | {"suppress_tokens": [5]},
            ),
            (
                {"logits_processor": [Own()], "bad_words_ids": [[4, 5]]},
                {"repetition_penalty": 1.7, "eos_token_id": [3], "bad_words_ids": [[4, 5]]}
                | {"other": {"logits_processor": "Own"}},
            ),
        ]
        with Capture(self.model) as capture:
            for more, _ in calls:
                self.model.generate(input_ids=prompts, max_new_tokens=6, do_sample=False, pad_token_id=0, **more)
            with torch.no_grad():
                self.model(input_ids=prompts)
        found = [conversation.settings for conversation in capture.conversations]
        self.assertEqual(found, [want for _, want in calls] + [None], "a call of the model itself has none")
        _, configurations = Experiment(capture).assemble(capture.batches())
        setups = [configuration["mantissa"]["setup"] for configuration in configurations]
        self.assertEqual([setup.get("generation") for setup in setups], found)
        self.assertEqual({setup["decoding"] for setup in setups}, {"greedy"}, "chosen under what is stated")
        names = [configuration["config_id"] for configuration in configurations]
        self.assertEqual(len(set(names)), len(names))

    def test_steps_behind_the_end_are_left_out(self):
        prompts = torch.tensor([support.ids(12), support.ids(12, 1)])
        free = self.model.generate(input_ids=prompts, max_new_tokens=8, **GREEDY)
        end = int(free[0, 14])
        self.assertNotIn(end, free[1, 12:].tolist())
        self.model.generation_config.eos_token_id = end
        with Capture(self.model) as capture:
            more = {"do_sample": False, "pad_token_id": 0, "eos_token_id": end}
            self.model.generate(input_ids=prompts, max_new_tokens=8, **more)
        stored, configurations = Experiment(capture).assemble(capture.batches())
        self.assertEqual(stored[0].output[-1], end)
        self.assertEqual(len(stored[0].output), stored[0].phases["decode"].steps)
        self.assertEqual(len(stored[1].output), 7)
        self.assertEqual(configurations[0]["mantissa"]["setup"]["decoding"], "greedy")

    def test_left_padding_is_no_part_of_the_prompt(self):
        long, short = support.ids(14), support.ids(9, 3)
        prompts = torch.tensor([long, [0] * 5 + short])
        mask = torch.tensor([[1] * 14, [0] * 5 + [1] * 9])
        with Capture(self.model, layers="all", sites="all") as capture:
            self.model.generate(input_ids=prompts, attention_mask=mask, max_new_tokens=5, **GREEDY)
        padded = runs_of(capture)[1]
        conversation = capture.conversations[0]
        self.assertEqual((padded.prompt, conversation.padding(0), conversation.padding(1)), (short, "none", "left:5"))
        _, configurations = Experiment(capture).assemble(capture.batches())
        axes = [c["mantissa"]["setup"].get("axes") for c in configurations]
        self.assertEqual(axes, [None, {"padding": "left:5"}])
        with Capture(self.model, layers="all", sites="all") as alone:
            self.model.generate(input_ids=torch.tensor([short]), max_new_tokens=5, **GREEDY)
        [run] = runs_of(alone)
        self.assertEqual(run.output, padded.output)
        for site in ("layer_2.x_out", "layer_1.k", "layer_3.mlp_out"):
            for phase in ("prefill", "decode"):
                a, b = (bits(r, phase, site).view(np.float32) for r in (padded, run))
                # Other shapes sum in other orders; other rows would be far off.
                self.assertLess(np.abs(a - b).max() / np.abs(b).max(), 1e-5, f"{phase} {site}")

    def test_right_padding_of_a_forward_call(self):
        long, short = support.ids(14), support.ids(9, 3)
        prompts, mask = torch.tensor([long, short + [0] * 5]), torch.tensor([[1] * 14, [1] * 9 + [0] * 5])
        with Capture(self.model, sites=["x_out"], top_k=4) as capture, torch.no_grad():
            out = self.model(input_ids=prompts, attention_mask=mask, output_hidden_states=True)
        run = runs_of(capture)[1]
        self.assertEqual((run.prompt, capture.conversations[0].padding(1)), (short, "right:5"))
        wanted = out.hidden_states[2][1, 6:9].numpy().view(np.uint32)
        self.assertTrue(np.array_equal(bits(run, "prefill", "layer_2.x_out")[0], wanted))
        best = out.logits[1, 6:9].argmax(-1).tolist()
        self.assertEqual(run.phases["prefill"].logprobs.token_ids[0, :, 0].tolist(), best)

    def test_windows_repeat_rows_as_they_were_computed(self):
        prompt = support.ids(10)
        with Capture(self.model, positions=[-3, -2, -1]) as capture:
            support.decode(self.model, [prompt], steps=4)
        [run] = runs_of(capture)
        keys, prefill = bits(run, "decode", "layer_2.k"), bits(run, "prefill", "layer_2.k")
        self.assertEqual(keys.shape[:2], (4, 3))
        self.assertTrue(np.array_equal(keys[0, :2], prefill[0, 1:]))
        self.assertTrue(np.array_equal(keys[1:, :2], keys[:-1, 1:]))

    def test_all_positions(self):
        """Of a prompt whole or in pieces, of prompts padded on either side, and of each decode step its own."""
        long, short = support.ids(10), support.ids(6, 3)
        left = {"input_ids": torch.tensor([long, [0] * 4 + short])}
        left["attention_mask"] = torch.tensor([[1] * 10, [0] * 4 + [1] * 6])
        left["position_ids"] = (left["attention_mask"].cumsum(1) - 1).clamp(min=0)
        right = {"input_ids": torch.tensor([long, short + [0] * 4])}
        right["attention_mask"] = torch.tensor([[1] * 10, [1] * 6 + [0] * 4])
        chunks = {**left, "input_ids": left["input_ids"][:1, :4]}, {"input_ids": left["input_ids"][:1, 4:]}
        chunks[0].pop("attention_mask"), chunks[0].pop("position_ids")
        look = {"layers": "all", "sites": "all", "positions": "all"}
        found = {}
        for name, passes in {"left": [left], "right": [right], "chunks": chunks}.items():
            with Capture(self.model, **look) as capture, torch.no_grad():
                out = {"past_key_values": None}
                for given in passes:
                    cache = {"past_key_values": out["past_key_values"]}
                    out = self.model(**given, **cache, use_cache=True, output_hidden_states=True)
            found[name] = runs_of(capture), out
        for name, columns in {"left": slice(4, 10), "right": slice(0, 6)}.items():
            runs, out = found[name]
            for run, row, part in zip(runs, (0, 1), (slice(0, 10), columns)):
                phase = run.phases["prefill"]
                self.assertEqual(phase.positions, list(range(-len(run.prompt), 0)))
                for site, x in {"layer_1.x_out": out.hidden_states[1], "logits": out.logits}.items():
                    wanted = x[row, part].numpy().view(np.uint32)
                    self.assertTrue(np.array_equal(phase.tensors[site].bits[0], wanted), f"{name} {row} {site}")
        [run], out = found["chunks"]
        self.assertTrue(np.array_equal(bits(run, "prefill", "logits")[0, 4:], out.logits[0].numpy().view(np.uint32)))
        with Capture(self.model, **look) as capture:
            support.decode(self.model, [long], steps=3)
        with Capture(self.model, layers="all", sites="all", positions=[-3, -2, -1]) as few:
            support.decode(self.model, [long], steps=3)
        path = support.new("all")
        capture.save(path)
        [run], [known] = runs_of(capture), runs_of(few)
        self.assertEqual(run.phases["decode"].positions, [-1])
        for site in capture.sites:
            self.assertTrue(np.array_equal(bits(run, "prefill", site)[:, -3:], bits(known, "prefill", site)), site)
            self.assertTrue(np.array_equal(bits(run, "decode", site), bits(known, "decode", site)[:, -1:]), site)
        shapes = {t["name"]: t["shape"] for t in support.run_json("inspect", path)["runs"][0]["tensors"]}
        wanted = [[1, 10, 128], [3, 1, 128]]
        self.assertEqual([shapes[f"{phase}/layer_2.x_out"] for phase in ("prefill", "decode")], wanted)

    def test_keys_are_those_of_the_cache(self):
        for family in support.FAMILIES:
            with self.subTest(family=family):
                model = support.load(family)
                with Capture(model, layers="all", sites=["k", "v"]) as capture, torch.no_grad():
                    out = model(input_ids=torch.tensor([support.ids(12)]), use_cache=True)
                [run] = runs_of(capture)
                for number, layer in enumerate(out.past_key_values.layers, 1):
                    for point, cached in (("k", layer.keys), ("v", layer.values)):
                        rows = cached[0].transpose(0, 1).flatten(1)[-3:].numpy().view(np.uint32)
                        self.assertTrue(np.array_equal(bits(run, "prefill", f"layer_{number}.{point}")[0], rows))

    def test_static_cache(self):
        cache = transformers.StaticCache(config=self.model.config, max_cache_len=32)
        prompts = torch.tensor([support.ids(12)])
        with Capture(self.model) as capture:
            out = self.model.generate(input_ids=prompts, past_key_values=cache, max_new_tokens=5, **GREEDY)
        [run] = runs_of(capture)
        self.assertEqual(run.output, out[0, 12:-1].tolist())
        [configuration] = Experiment(capture).assemble(capture.batches())[1]
        self.assertEqual(configuration["mantissa"]["setup"]["axes"], {"cache": "static"})

    def test_a_prompt_in_chunks_says_so(self):
        prompts = torch.tensor([support.ids(12)])
        with Capture(self.model, positions=[-1], top_k=0) as capture:
            self.model.generate(input_ids=prompts, prefill_chunk_size=5, max_new_tokens=3, **GREEDY)
        [configuration] = Experiment(capture).assemble(capture.batches())[1]
        self.assertEqual(configuration["mantissa"]["setup"]["axes"]["prefill_chunks"], "5,5,2")
        [run] = runs_of(capture)
        self.assertEqual(run.prompt, prompts[0].tolist())

    def test_calls_with_the_same_prompt_are_repetitions(self):
        prompts = torch.tensor([support.ids(12), support.ids(12, 1)])
        with Capture(self.model) as capture:
            for _ in range(3):
                self.model.generate(input_ids=prompts, max_new_tokens=4, **GREEDY)
            self.model.generate(input_ids=prompts[:1], max_new_tokens=4, **GREEDY)
        stored, configurations = Experiment(capture).assemble(capture.batches())
        state = lambda c: c["mantissa"]["reproducibility"]["outcome"]["state"]
        self.assertEqual([state(c) for c in configurations], ["identical", "not_checked"])
        self.assertEqual([(r.reference, r.rep) for r in stored], [(0, 2), (1, 2), (0, 0)])
        self.assertEqual([c["variable_value"] for c in configurations], [2, 1])

    def test_one_bit_between_repetitions_is_found_at_its_place(self):
        prompts = torch.tensor([support.ids(12)])
        with Capture(self.model, layers="all", sites=["x_out", "attn_out"]) as capture:
            self.model.generate(input_ids=prompts, max_new_tokens=4, **GREEDY)
            weight = self.model.model.layers[1].self_attn.o_proj.weight
            with torch.no_grad():
                weight[7] = torch.nextafter(weight[7], torch.tensor(9.0))
            self.model.generate(input_ids=prompts, max_new_tokens=4, **GREEDY)
        _, [configuration] = Experiment(capture).assemble(capture.batches())
        outcome = configuration["mantissa"]["reproducibility"]["outcome"]
        self.assertEqual((outcome["state"], outcome["repetitions"]), ("divergent", [0, 1]))
        first = outcome["first"]
        self.assertEqual((first["site"], first["element"], first["phase"]), ("layer_2.attn_out", 7, "prefill"))


class Refusals(unittest.TestCase):
    def setUp(self):
        self.model = support.load("llama")
        self.prompts = torch.tensor([support.ids(12)])

    def refused(self, words, call, **more):
        with self.assertRaisesRegex(CaptureError, words):
            with Capture(self.model, **more) as capture, torch.no_grad():
                call()
            runs_of(capture)
        self.assertFalse(self.model.model.layers[0]._forward_hooks, "hooks are gone after an error")
        # The model computes as before.
        self.model(input_ids=self.prompts)

    def test_what_cannot_be_told_is_an_error(self):
        model, prompts = self.model, self.prompts
        self.refused("no pass of the model was seen", lambda: None)
        embeddings = torch.zeros(1, 4, model.config.hidden_size)
        self.refused("given embeddings", lambda: model(inputs_embeds=embeddings))
        hole = torch.tensor([[1, 1, 0, 1] + [1] * 8])
        self.refused("not padding at the ends", lambda: model(input_ids=prompts, attention_mask=hole))
        packed = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]])
        self.refused("packed sequences", lambda: model(input_ids=prompts, position_ids=packed))
        filled = model(input_ids=prompts, use_cache=True).past_key_values
        self.refused("did not see filled", lambda: model(input_ids=prompts[:, :1], past_key_values=filled))
        self.refused("beam search", lambda: model.generate(input_ids=prompts, num_beams=2, max_new_tokens=3, **GREEDY))
        short = lambda: model(input_ids=prompts[:, :2])
        self.refused("a prompt of 2 tokens has no position -3", short, positions=[-3, -1])
        self.refused("do not lie before the end", lambda: None, positions=[0])
        self.refused("no sequences", lambda: model(input_ids=prompts), sequences=[3])
        self.refused("larger than 100 bytes", lambda: model(input_ids=prompts), memory_limit=100)

    def test_continued_generation(self):
        def goes_on():
            out = self.model(input_ids=self.prompts, use_cache=True)
            self.model(input_ids=self.prompts[:, :1], past_key_values=out.past_key_values)
            self.model(input_ids=self.prompts[:, :4], past_key_values=out.past_key_values)

        self.refused("after decode steps", goes_on)

    def test_training_mode(self):
        self.model.train()
        with self.assertRaisesRegex(CaptureError, "training mode"), Capture(self.model):
            pass

    def test_generate_that_compiles(self):
        with mock.patch.object(type(self.model), "_valid_auto_compile_criteria", return_value=True):
            cache = transformers.StaticCache(config=self.model.config, max_cache_len=32)
            call = lambda: self.model.generate(
                input_ids=self.prompts, past_key_values=cache, max_new_tokens=3, **GREEDY
            )
            self.refused("generate compiles the model by itself", call)

    def test_logits_that_generate_did_not_compute(self):
        call = lambda: self.model.generate(input_ids=self.prompts, max_new_tokens=3, **GREEDY)
        self.refused("computed at its last 1 positions", call, positions=[-2, -1])

    def test_compiled_models_are_seen_from_outside(self):
        compiled = torch.compile(self.model, backend="eager")
        with self.assertRaisesRegex(CaptureError, "cannot be seen inside compiled code"):
            Capture(compiled)
        plain = support.decode(self.model, self.prompts.tolist())
        with Capture(compiled, sites=["logits"]) as capture:
            seen = support.decode(compiled, self.prompts.tolist())
        [run] = runs_of(capture)
        self.assertTrue(all(torch.equal(a, b) for a, b in zip(plain, seen)))
        wanted = torch.cat([out[:, -1] for out in seen[1:]]).numpy().view(np.uint32)
        self.assertTrue(np.array_equal(bits(run, "decode", "logits")[:, -1], wanted))
        [configuration] = Experiment(capture).assemble(capture.batches())[1]
        self.assertTrue(configuration["fixed_params"]["compile"])


class Placed(unittest.TestCase):
    def test_device_map(self):
        """With accelerate's hooks on every module, and with blocks that are brought from the disk when they run."""
        try:
            import accelerate  # noqa: F401
        except ImportError:
            self.skipTest("accelerate is not installed")
        plain = support.load("qwen3")
        everywhere = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
        everywhere |= {f"model.layers.{n}": "cpu" if n % 2 else "disk" for n in range(len(plain.model.layers))}
        runs = []
        for more in ({}, {"device_map": {"": "cpu"}}, {"device_map": everywhere, "offload_folder": support.new("disk")}):
            model = support.load("qwen3", **more)
            with Capture(model, layers="all", sites="all", positions=[-1]) as capture:
                support.decode(model, [support.ids(12)], steps=2)
            runs += runs_of(capture)
        self.assertEqual(len({run.signals_digest() for run in runs}), 1)


class Adapters(unittest.TestCase):
    def test_base_and_adapter_are_stated(self):
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError:
            self.skipTest("peft is not installed")
        base = support.load("llama")
        plain = Experiment(self._captured(base))
        torch.manual_seed(0)
        model = get_peft_model(
            base, LoraConfig(target_modules=["q_proj", "o_proj"], r=2, init_lora_weights=False)
        ).eval()
        capture = self._captured(model)
        [configuration] = (experiment := Experiment(capture)).assemble(capture.batches())[1]
        self.assertEqual(experiment.weights.base, plain.weights.digest)
        self.assertNotEqual(experiment.weights.digest, plain.weights.digest)
        adapter = configuration["mantissa"]["setup"]["axes"]["adapter"]
        self.assertEqual(adapter, f"{experiment.weights.adapter} over {plain.weights.digest}")
        with torch.no_grad():
            next(p for n, p in model.named_parameters() if "lora_B" in n)[0, 0] += 1
        other = Experiment(self._captured(model)).weights
        self.assertEqual(other.base, plain.weights.digest)
        self.assertNotEqual(other.digest, experiment.weights.digest)

    def _captured(self, model):
        with Capture(model) as capture:
            support.decode(model, [support.ids(10)], steps=1)
        return capture


if __name__ == "__main__":
    unittest.main()
