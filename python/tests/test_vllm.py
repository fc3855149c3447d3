"""vLLM's capture against a worker of the same interface (`fake_vllm`): rows, ranks, graphs, make-up of steps."""

import http.server
import json
import os
import threading
import types
import unittest
import unittest.mock

import numpy as np
import torch

from . import fake_vllm, support
from mantissa_forensics import CaptureError, KnobError, VllmCapture, VllmServerCapture, record_vllm
from mantissa_forensics.container import read
from mantissa_forensics.vllm.worker import WorkerExtension, quantization

PROMPTS = [[(7 * i + s) % 40 for i in range(n)] for s, n in ((1, 9), (2, 6), (3, 11))]
SAMPLING = fake_vllm.SamplingParams(max_tokens=5, temperature=0.0, ignore_eos=True)
ALL = ["x_in", "q", "k", "v", "attn_out", "x_after_attn", "ffn_norm", "mlp_out", "x_out", "embed_out", "final_norm"]


def tokens(prompts=PROMPTS):
    return [{"prompt_token_ids": ids} for ids in prompts]


def llm(**more):
    return fake_vllm.LLM(WorkerExtension, **more)


def as_bits(x):
    return x.contiguous().view(torch.int16).numpy().view(np.uint16)


class Rows(unittest.TestCase):
    def test_every_site_of_every_request_is_what_passed_it(self):
        """Steps mix prompts and decoding, and vLLM puts rows in an order of its own."""
        engine = llm(plan=lambda call: fake_vllm.one_first)
        with VllmCapture(engine, layers="all", sites=ALL, top_k=0) as capture:
            outputs = engine.generate(tokens(), SAMPLING)
        truth = engine.workers[0].model_runner.state.truth
        runs = [capture.batches[0].run(row, [-3, -2, -1], None, capture.facts[0]) for row in range(3)]
        names = sorted({key[0] for key in truth}, key=lambda name: int(name.split("-")[0]))
        compared = 0
        for row, run in enumerate(runs):
            self.assertEqual((run.prompt, run.output), (PROMPTS[row], outputs[row].outputs[0].token_ids))
            for phase, ends in (
                ("prefill", [len(run.prompt)]),
                ("decode", [len(run.prompt) + s + 1 for s in range(4)]),
            ):
                for site, tensor in run.phases[phase].tensors.items():
                    if site == "embed_out":
                        continue
                    for step, end in enumerate(ends):
                        for place, position in enumerate((-3, -2, -1)):
                            wanted = as_bits(truth[names[row], site, end + position])
                            self.assertTrue(np.array_equal(tensor.bits[step, place], wanted), f"{phase} {site} {step}")
                            compared += wanted.size
        self.assertGreater(compared, 10_000)

    def test_the_experts_of_mixtral(self):
        """Their module has a name of its own."""
        engine = llm()
        for block in engine.workers[0].get_model().model.layers:
            block.block_sparse_moe = block.mlp
            del block.mlp
        with VllmCapture(engine, layers="all", sites=["mlp_out"], top_k=0) as capture:
            engine.generate(tokens(PROMPTS[:1]), SAMPLING)
        truth = engine.workers[0].model_runner.state.truth
        [name] = {key[0] for key in truth}
        run = capture.batches[0].run(0, [-1], None, capture.facts[0])
        found = run.phases["prefill"].tensors
        self.assertEqual([*found], [f"layer_{n + 1}.mlp_out" for n in range(fake_vllm.LAYERS)])
        for site, tensor in found.items():
            wanted = as_bits(truth[name, site, len(PROMPTS[0]) - 1])
            self.assertTrue(np.array_equal(tensor.bits[0, 0], wanted), site)

    def test_every_position(self):
        """All of a prompt, of each decode step its own; logits where vLLM computes them."""
        engine = llm(plan=lambda call: fake_vllm.one_first)
        with VllmCapture(engine, layers="all", sites="all", positions="all", top_k=0) as capture:
            engine.generate(tokens(), SAMPLING)
        truth = engine.workers[0].model_runner.state.truth
        names = sorted({key[0] for key in truth}, key=lambda name: int(name.split("-")[0]))
        for row, name in enumerate(names):
            run, length = capture.batches[0].run(row, "all", None, capture.facts[0]), len(PROMPTS[row])
            prefill, decode = run.phases["prefill"], run.phases["decode"]
            self.assertEqual((prefill.positions, decode.positions), (list(range(-length, 0)), [-1]))
            self.assertEqual({*decode.tensors} - {*prefill.tensors}, {"logits"})
            self.assertEqual({*(s.split(".")[-1] for s in decode.tensors)}, {*ALL, "logits"})
            for phase, first in ((prefill, 0), (decode, length)):
                for site, tensor in phase.tensors.items():
                    rows = tensor.bits.reshape(-1, tensor.bits.shape[2])
                    self.assertEqual(len(rows), length if phase is prefill else 4)
                    for i, bits in enumerate(rows):
                        if site != "embed_out":
                            self.assertTrue(np.array_equal(bits, as_bits(truth[name, site, first + i])), site)
        with support.tempfile.TemporaryDirectory() as folder:
            path = capture.save(os.path.join(folder, "out"), name="m")
            self.assertEqual([len(run.phases["prefill"].positions) for run in read(path)[2]], [9, 6, 11])

    def test_nothing_changes_and_nothing_stays(self):
        plain, seen = llm(), llm()
        wanted = plain.generate(tokens(), SAMPLING)
        with VllmCapture(seen, sites=["x_out", "logits"]):
            found = seen.generate(tokens(), SAMPLING)
        for a, b in zip(wanted, found):
            self.assertEqual(a.outputs[0].token_ids, b.outputs[0].token_ids)
        a, b = (engine.workers[0].model_runner.state.truth for engine in (plain, seen))
        self.assertTrue(all(torch.equal(a[key], b[key]) for key in a))
        for module in seen.workers[0].get_model().modules():
            self.assertFalse(module._forward_hooks or module._forward_pre_hooks)
        self.assertNotIn("execute_model", seen.workers[0].model_runner.__dict__)
        self.assertNotIn("compute_logits", seen.workers[0].get_model().__dict__)

    def test_log_probabilities_are_those_of_the_logits(self):
        engine = llm()
        with VllmCapture(engine, sites=["logits"], top_k=4) as capture:
            engine.generate(tokens(), SAMPLING)
        run = capture.batches[0].run(1, [-1], None, capture.facts[0])
        for phase in ("prefill", "decode"):
            logits = torch.from_numpy(run.phases[phase].tensors["logits"].bits.view(np.int16).copy()).view(
                torch.bfloat16
            )
            found = torch.log_softmax(logits.float(), -1).topk(4)
            self.assertTrue(np.array_equal(run.phases[phase].logprobs.token_ids, found.indices.numpy()))
            self.assertTrue(np.array_equal(run.phases[phase].logprobs.log_probs.view(np.float32), found.values.numpy()))

    def test_model_runner_v2(self):
        """Its logits come after the pass; what is kept is the same."""
        found = []
        for runner in (fake_vllm.Runner, fake_vllm.RunnerV2):
            for eager in (True, False):
                engine = llm(runner=runner, eager=eager, plan=lambda call: fake_vllm.one_first)
                with VllmCapture(engine, sites=["final_norm", "logits"], top_k=4) as capture:
                    engine.generate(tokens(), SAMPLING)
                runs = [capture.batches[0].run(row, [-1], None, capture.facts[0]) for row in range(3)]
                self.assertEqual([run.phases["decode"].steps for run in runs], [4, 4, 4])
                found.append([run.signals_digest() for run in runs] + [capture.batches[0].makeup()])
                self.assertNotIn("sample_tokens", engine.workers[0].model_runner.__dict__)
        self.assertTrue(all(other == found[0] for other in found))

    def test_a_request_that_was_preempted(self):
        engine = llm()
        worker, original = engine.workers[0], engine.workers[0].mantissa_collect

        def twice():
            rows = worker._mantissa.requests["1-0000004d"]["rows"]["final_norm"]
            rows.append(rows[0])
            return original()

        worker.mantissa_collect = twice
        with self.assertRaisesRegex(CaptureError, "a request was preempted"), VllmCapture(engine):
            engine.generate(tokens(), SAMPLING)

    def test_quantization_is_told_by_the_layers_methods(self):
        word = lambda asked, method, **config: quantization(
            asked, types.SimpleNamespace(quant_config=types.SimpleNamespace(**config)), {"a.*.b": {method}}
        )
        self.assertEqual(word("auto_awq", "AutoAWQMarlinLinearMethod/MarlinLinearKernel"), "awq")
        self.assertEqual(word("auto_gptq", "AutoGPTQLinearMethod/MacheteLinearKernel"), "gptq")
        self.assertEqual(word("auto_gptq", "UnquantizedLinearMethod"), "none")
        self.assertEqual(word("bitsandbytes", "BitsAndBytesLinearMethod", bnb_4bit_quant_type="nf4"), "bnb-nf4")
        self.assertEqual(word("bitsandbytes", "BitsAndBytesLinearMethod", load_in_8bit=True), "bnb-int8")

    def test_prompts_log_probabilities(self):
        engine, asked = llm(), types.SimpleNamespace(max_tokens=5, prompt_logprobs=4)
        with VllmCapture(engine, sites=["final_norm"], top_k=4) as capture:
            engine.generate(tokens(), asked)
        self.assertEqual(capture.positions, [-3, -2, -1])
        runner = engine.workers[0].model_runner
        for row in range(3):
            run = capture.batches[0].run(row, capture.positions, None, capture.facts[0])
            for phase, steps in (("prefill", 1), ("decode", 4)):
                final, logprobs = run.phases[phase].tensors["final_norm"].bits, run.phases[phase].logprobs
                for step in range(steps):
                    for place in range(3):
                        hidden = torch.from_numpy(final[step, place].view(np.int16).copy()).view(torch.bfloat16)
                        found = torch.log_softmax((hidden @ runner.model.head.T).float(), -1).topk(4)
                        theirs = logprobs.log_probs[step, place].view(np.float32)
                        self.assertLess(np.abs(theirs - found.values.detach().numpy()).max(), 0.02)
                        if (found.values.diff() < -0.05).all():
                            self.assertEqual(logprobs.token_ids[step, place].tolist(), found.indices.tolist())

    def test_with_cuda_graphs_the_last_norm_and_logits_remain(self):
        engine = llm(eager=False)
        with VllmCapture(engine) as capture:
            engine.generate(tokens(), SAMPLING)
        run = capture.batches[0].run(2, [-1], None, capture.facts[0])
        self.assertEqual(list(run.phases["decode"].tensors), ["final_norm"])
        truth, name = engine.workers[0].model_runner.state.truth, "2-0000009a"
        for step in range(4):
            wanted = as_bits(truth[name, "final_norm", len(PROMPTS[2]) + step])
            self.assertTrue(np.array_equal(run.phases["decode"].tensors["final_norm"].bits[step, 0], wanted))
        with self.assertRaisesRegex(CaptureError, "with CUDA graphs x_out cannot be seen"):
            with VllmCapture(engine, sites=["x_out"]):
                engine.generate(tokens(), SAMPLING)

    def test_heads_of_all_ranks_side_by_side_or_each_alone(self):
        for ranks in (2, 4):
            if ranks == 4:
                # More ranks than KV heads: vLLM has each on several.
                original = torch.Tensor.chunk
                chunk = lambda x, n, dim=-1: (
                    original(x, n, dim) if x.shape[-1] == 16 else [original(x, 2, dim)[i // 2] for i in range(4)]
                )
            engine = llm(ranks=ranks)
            patch = (
                unittest.mock.patch.object(torch.Tensor, "chunk", chunk) if ranks == 4 else unittest.mock.MagicMock()
            )
            with patch, VllmCapture(engine, layers=[1], sites=["q", "k", "v", "x_out"]) as capture:
                engine.generate(tokens(), SAMPLING)
            truth, name = engine.workers[0].model_runner.state.truth, "0-00000000"
            run = capture.batches[0].run(0, [-1], None, capture.facts[0])
            for point in ("q", "k", "v"):
                wanted = as_bits(truth[name, f"layer_1.{point}", len(PROMPTS[0]) - 1])
                self.assertTrue(np.array_equal(run.phases["prefill"].tensors[f"layer_1.{point}"].bits[0, 0], wanted))
        one = capture.batches[0].run(0, [-1], 1, capture.facts[0])
        self.assertEqual(one.phases["prefill"].tensors["layer_1.q"].bits.shape[2], 4)

    def test_what_is_not_known_is_refused(self):
        engine = llm()
        refused = lambda words, **more: self.assertRaisesRegex(CaptureError, words)
        with refused("no block chosen has the point 'router_topk'"), VllmCapture(engine, sites=["router_topk"]):
            engine.generate(tokens(), SAMPLING)
        with refused("logits of a prompt's newest position alone"), VllmCapture(engine, positions=[-2, -1]):
            engine.generate(tokens(), SAMPLING)
        bare = fake_vllm.LLM(type("Nothing", (), {}))
        with refused("make the LLM with worker_extension_cls"), VllmCapture(bare):
            bare.generate(tokens(), SAMPLING)
        shuffled = llm()
        # A runner whose rows are in another order than it says.
        runner = shuffled.workers[0].model_runner
        swap = lambda m, args, kwargs: (args, {**kwargs, "positions": kwargs["positions"].flip(0)})
        runner.model.register_forward_pre_hook(swap, with_kwargs=True)
        with refused("a row is not of the position that the scheduler named"), VllmCapture(shuffled):
            shuffled.generate(tokens(), SAMPLING)

    def test_prefix_cache(self):
        engine = llm()
        with VllmCapture(engine) as capture:
            engine.generate(tokens(), SAMPLING)
        kept = capture.batches[0].ranks[0]["requests"]["0-00000000"]
        kept["cached"] = 9
        with self.assertRaisesRegex(CaptureError, "in the prefix cache"):
            capture.batches[0].run(0, [-1], None, capture.facts[0])


class Server(http.server.BaseHTTPRequestHandler):
    """vLLM's `/collective_rpc`: arguments are strings, and what is not a list or an object is answered as text."""

    engine = None

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/collective_rpc" and all(isinstance(a, str) for a in body["args"])
        results = self.engine.collective_rpc(body["method"], args=tuple(body["args"]))
        plain = [r if r is None or isinstance(r, (dict, list)) else str(r) for r in results]
        answer = json.dumps({"results": plain}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Serving(unittest.TestCase):
    def test_a_running_servers_workers(self):
        engine = llm(ranks=2)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Server,), {"engine": engine}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url, folder = f"http://127.0.0.1:{server.server_address[1]}", support.new("dumps")
        capture = VllmServerCapture(url, folder, sites=["x_out", "k"], sequences=[0])
        for _ in range(2):
            with capture:
                outputs = engine.generate(tokens(), SAMPLING)
        self.assertEqual(os.listdir(folder), [])
        out = support.new("served")
        capture.save(out)
        _, [configuration], [run] = read(out)
        # The last token is chosen and never fed.
        self.assertEqual((run.prompt, run.output), (PROMPTS[0], outputs[0].outputs[0].token_ids[:-1]))
        self.assertEqual(configuration["mantissa"]["reproducibility"]["outcome"]["state"], "identical")
        with VllmCapture(llm(ranks=2), sites=["x_out", "k"]) as other:
            other.llm.generate(tokens(), SAMPLING)
        same = other.batches[0].run(0, [-1], None, other.facts[0])
        self.assertEqual(same.signals_digest(), run.signals_digest())
        support.run("inspect", out)
        with self.assertRaisesRegex(CaptureError, "the server had no request"), capture:
            pass
        with self.assertRaisesRegex(CaptureError, "start it with VLLM_SERVER_DEV_MODE=1"):
            VllmServerCapture("http://127.0.0.1:9", folder).__enter__()


class Settings(unittest.TestCase):
    """How tokens were chosen, from what the engine took over."""

    def stated(self, *params):
        engine = llm()
        with VllmCapture(engine, sites=["x_out"], top_k=0) as c:
            for one in params:
                engine.generate(tokens(), one)
        out = support.new("settings")
        c.save(out)
        support.run("inspect", out)
        setups = [c["mantissa"]["setup"] for c in read(out)[1]]
        return [(setup["decoding"], setup["generation"]) for setup in setups]

    def test_settings_are_those_of_the_engine(self):
        new = lambda **more: fake_vllm.SamplingParams(max_tokens=3, **more)
        cases = [
            (new(temperature=0.0), ("greedy", {"eos_token_id": [38, 39]})),
            (new(temperature=0.0, ignore_eos=True), ("greedy", {"ignore_eos": True})),
            (new(temperature=0.0, ignore_eos=True, stop_token_ids=[7]), ("greedy", {"eos_token_id": [7]})),
            (
                new(temperature=0.0, repetition_penalty=1.1, min_tokens=2),
                ("greedy", {"repetition_penalty": 1.1, "min_new_tokens": 2, "eos_token_id": [38, 39]}),
            ),
            (
                new(temperature=0.7, top_p=0.9, top_k=-1, seed=3, ignore_eos=True),
                ("sampled", {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "seed": 3, "ignore_eos": True}),
            ),
            (
                new(temperature=0.0, logit_bias={5: 2}, presence_penalty=1.0, ignore_eos=True),
                (
                    "greedy",
                    {
                        "sequence_bias": [[[5], 2.0]],
                        "presence_penalty": 1.0,
                        "ignore_eos": True,
                        "other": {"order": "biases before penalties"},
                    },
                ),
            ),
            (
                new(temperature=0.0, _bad_words_token_ids=[[5], [6, 7]], ignore_eos=True),
                ("greedy", {"ignore_eos": True, "other": {"bad_words": "[[5], [6, 7]]"}}),
            ),
        ]
        for params, want in cases:
            self.assertEqual(self.stated(params), [want])
        # Other settings are another configuration, and the same ones a repetition.
        first, second = cases[0], cases[1]
        self.assertEqual(self.stated(first[0], second[0], first[0]), [first[1], second[1]])

    def test_prompts_with_settings_of_their_own_are_refused(self):
        engine = llm()
        params = [fake_vllm.SamplingParams(max_tokens=3, temperature=0.0, seed=seed) for seed in (None, 1, 1)]
        params[0].repetition_penalty = 1.2
        refused = self.assertRaisesRegex(CaptureError, "settings of their own")
        with VllmCapture(engine, sites=["x_out"], top_k=0), refused:
            engine.generate(tokens(), params)
        self.assertNotIn("process_inputs", vars(engine.llm_engine.input_processor))


class Evidence(unittest.TestCase):
    def record(self, engine, **more):
        out = support.new("vllm")
        more = {"sampling": SAMPLING, "repetitions": 3, "sequences": [0], **more}
        return out, record_vllm(engine, PROMPTS, out, **more)

    def test_the_program_reads_it(self):
        out, result = self.record(llm(folder=support.folder("llama")))
        self.assertEqual((result["reproducible"], result["cause"]), (True, None))
        text = support.run("inspect", out)
        for words in ("attention=FLASH_ATTN", "steps", "made up by the engine", "3, identical to the bit"):
            self.assertIn(words, text)
        support.run("compare", out, out)
        [configuration] = read(out)[1]
        observed = configuration["mantissa"]["observed"]
        self.assertEqual(observed["layers"]["model.layers.*.self_attn.qkv_proj"], "UnquantizedLinearMethod")
        first = observed["steps"][0]["requests"]
        self.assertEqual([(r["request"], r["tokens"]) for r in first], [("0", 9), ("1", 6), ("2", 11)])
        shown = support.run("verify", out, "--model", support.folder("llama"), code=3)
        self.assertIn("no recipes for", shown)
        stated = support.run_json("inspect", support.folder("llama"), "--digest")["digest"]["digest"]
        self.assertEqual(configuration["mantissa"]["setup"]["model"]["weights_digest"], stated)

    def test_steps_made_up_differently_are_told_from_kernels_that_do_not_repeat(self):
        by_call = lambda call: fake_vllm.one_first if call == 1 else fake_vllm.together
        out, result = self.record(llm(plan=by_call))
        self.assertEqual((result["reproducible"], result["cause"]), (False, "steps"))
        _, configurations, _ = read(out)
        self.assertEqual([c["mantissa"]["reproducibility"]["repetitions"] for c in configurations], [2, 1])
        self.assertEqual(configurations[0]["mantissa"]["reproducibility"]["outcome"]["state"], "identical")
        self.assertIn("steps of 2 make-ups", json.dumps(configurations[0]["mantissa"]["observed"]["notes"]))
        support.run("inspect", out)

        engine = llm()
        calls = []

        def breaks(call):
            calls.append(call)
            engine.workers[0].model_runner.broken = 0.25 if call == 1 else 0.0
            return fake_vllm.together

        engine.plan = breaks
        out, result = self.record(engine, sites=["x_out", "logits"])
        self.assertEqual((result["reproducible"], result["cause"]), (False, "kernels"))
        [configuration] = read(out)[1]
        outcome = configuration["mantissa"]["reproducibility"]["outcome"]
        self.assertEqual((outcome["state"], outcome["repetitions"]), ("divergent", [0, 1]))
        self.assertEqual(outcome["first"]["site"], "logits")
        support.run("inspect", out)

    def test_a_container_for_each_rank(self):
        out, _ = self.record(llm(ranks=2), ranks="each")
        for rank in ("rank0", "rank1"):
            support.run("inspect", os.path.join(out, rank))

    def test_a_rank_with_other_bits_is_noted(self):
        engine = llm(ranks=2)
        engine.workers[1].model_runner.model.model.layers[1].mlp.down.weight.data[0, 0] += 1
        out, _ = self.record(engine)
        notes = json.dumps(read(out)[1][0]["mantissa"]["observed"]["notes"])
        self.assertIn("rank 1 holds other bits of layer_2.x_out than rank 0", notes)

    def test_knobs(self):
        wrong = {
            "dtype": "float16",
            "attention": "TRITON_ATTN",
            "compile": True,
            "quantization": "awq",
            "batch_size": 2,
        }
        wrong |= {"tp_size": 2, "ep_size": 2, "device": "cuda", "cache": "static", "concurrent_streams": True}
        for axis, value in wrong.items():
            with self.subTest(axis=axis), self.assertRaises(KnobError) as caught:
                self.record(llm(), expect={axis: value})
            self.assertEqual(caught.exception.axis, axis)


if __name__ == "__main__":
    unittest.main()
