"""A worker, a model runner and an `LLM` with the interface of vLLM 0.24 that a capture uses, on a CPU without vLLM.

The model has vLLM's modules: rows of all requests one after the other, blocks that return `(hidden, residual)`, a norm
that adds in place, linear layers that return tuples, an attention module that is given what is to be cached. Every rank
holds all weights and hands its attention the heads that are its own. `truth` notes what passes each site, as vLLM's own
code would compute it. Steps are made up as `plan` says.
"""

import types

import torch
from torch import nn

WIDTH, HEADS, KV_HEADS, HEAD, LAYERS, VOCABULARY = 16, 4, 2, 4, 3, 40


class Norm(nn.Module):
    """RMSNorm; with a residual it adds in place and returns both, as vLLM's fused kernel."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(WIDTH) + 0.5)

    def forward(self, x, residual=None):
        if residual is None:
            return self._norm(x)
        residual.add_(x)
        x.copy_(self._norm(residual))
        return x, residual

    def _norm(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * self.weight


class Linear(nn.Module):
    def __init__(self, rows, columns):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(columns, rows) / rows**0.5)
        self.quant_method = type("UnquantizedLinearMethod", (), {})()

    def forward(self, x):
        return x @ self.weight.T, None


class Attention(nn.Module):
    """Is given the rank's heads; computes with all of them."""

    attn_backend = type("Backend", (), {"get_name": staticmethod(lambda: "FLASH_ATTN")})

    def forward(self, query, key, value):
        state = self.state
        query, key, value = state.whole
        out = torch.empty_like(query)
        for name, rows, positions in state.parts:
            cache = state.caches.setdefault((name, self.layer), {})
            for i, position in zip(range(rows.start, rows.stop), positions):
                cache[position] = key[i].clone(), value[i].clone()
            for i, position in zip(range(rows.start, rows.stop), positions):
                keys = torch.stack([cache[p][0] for p in range(position + 1)]).view(-1, KV_HEADS, HEAD)
                values = torch.stack([cache[p][1] for p in range(position + 1)]).view(-1, KV_HEADS, HEAD)
                q = query[i].view(HEADS, HEAD)
                group = HEADS // KV_HEADS
                for head in range(HEADS):
                    weights = torch.softmax((keys[:, head // group] @ q[head]).float() / HEAD**0.5, 0).to(q.dtype)
                    out[i].view(HEADS, HEAD)[head] = weights @ values[:, head // group]
        return out


class SelfAttention(nn.Module):
    def __init__(self, layer, rank, ranks):
        super().__init__()
        self.qkv_proj = Linear(WIDTH, (HEADS + 2 * KV_HEADS) * HEAD)
        self.o_proj = Linear(HEADS * HEAD, WIDTH)
        self.attn = Attention()
        self.attn.layer, self.rank, self.ranks = layer, rank, ranks

    def forward(self, positions, hidden_states):
        qkv, _ = self.qkv_proj(hidden_states)
        q, k, v = qkv.split([HEADS * HEAD, KV_HEADS * HEAD, KV_HEADS * HEAD], dim=-1)
        turn = (1 + positions[:, None] / 64).to(q.dtype)
        q, k = q * turn, k * turn
        self.attn.state.whole = q, k, v
        own = lambda x: x.chunk(self.ranks, dim=-1)[self.rank]
        for name, x in (("q", q), ("k", k), ("v", v)):
            self.attn.state.note(f"layer_{self.attn.layer}.{name}", x)
        out, _ = self.o_proj(self.attn(own(q), own(k), own(v)))
        return out


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = Linear(WIDTH, 32), Linear(32, WIDTH)

    def forward(self, x):
        return self.down(torch.relu(self.up(x)[0]))[0]


class Block(nn.Module):
    def __init__(self, layer, rank, ranks):
        super().__init__()
        self.layer = layer
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()
        self.self_attn, self.mlp = SelfAttention(layer, rank, ranks), Mlp()

    def forward(self, positions, hidden_states, residual):
        note = lambda point, x: self.self_attn.attn.state.note(f"layer_{self.layer}.{point}", x)
        note("x_in", hidden_states if residual is None else hidden_states + residual)
        if residual is None:
            residual = hidden_states.clone()
            hidden_states = self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.self_attn(positions=positions, hidden_states=hidden_states)
        note("attn_out", hidden_states)
        note("x_after_attn", hidden_states + residual)
        hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        note("ffn_norm", hidden_states)
        # As Mixtral's blocks call theirs.
        mlp = self.mlp if hasattr(self, "mlp") else self.block_sparse_moe
        hidden_states = mlp(hidden_states)
        note("mlp_out", hidden_states)
        note("x_out", hidden_states + residual)
        return hidden_states, residual


class Inner(nn.Module):
    def __init__(self, rank, ranks):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList([Block(n + 1, rank, ranks) for n in range(LAYERS)])
        self.norm = Norm()

    def forward(self, input_ids, positions):
        hidden_states, residual = self.embed_tokens(input_ids), None
        for block in self.layers:
            hidden_states, residual = block(positions, hidden_states, residual)
        hidden_states, _ = self.norm(hidden_states, residual)
        return hidden_states


class Model(nn.Module):
    def __init__(self, rank, ranks):
        super().__init__()
        torch.manual_seed(0)
        self.model = Inner(rank, ranks)
        self.head = nn.Parameter(torch.randn(VOCABULARY, WIDTH) / 4)

    def forward(self, input_ids, positions):
        return self.model(input_ids=input_ids, positions=positions)

    def compute_logits(self, hidden_states):
        return hidden_states @ self.head.T


class State:
    """What vLLM keeps in its forward context and caches, and what really passed each site."""

    def __init__(self):
        self.parts, self.caches, self.whole, self.truth = [], {}, None, {}

    def note(self, site, x):
        for name, rows, positions in self.parts:
            for i, position in zip(range(rows.start, rows.stop), positions):
                self.truth[name, site, position] = x[i].detach().clone()


class Runner:
    """`GPUModelRunner` as far as it is used. A graph that is replayed calls no module's hooks."""

    def __init__(self, rank, ranks, eager):
        self.model, self.state, self.eager = Model(rank, ranks).to(torch.bfloat16).eval(), State(), eager
        for block in self.model.model.layers:
            block.self_attn.attn.state = self.state
        self.tokens, self.input_batch = {}, types.SimpleNamespace(req_ids=[])
        # Makes the next passes of a kernel differ.
        self.broken = 0.0

    @torch.inference_mode()
    def execute_model(self, output, intermediate_tensors=None):
        for new in output.scheduled_new_reqs:
            self.tokens[new.req_id] = list(new.prompt_token_ids)
        computed = {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        computed |= dict(zip(output.scheduled_cached_reqs.req_ids, output.scheduled_cached_reqs.num_computed_tokens))
        # vLLM puts the requests that decode first.
        order = sorted(output.num_scheduled_tokens, key=lambda name: (output.num_scheduled_tokens[name] > 1, name))
        self.input_batch.req_ids = order
        at, ids, places, last = 0, [], [], []
        self.state.parts = []
        for name in order:
            count, before = output.num_scheduled_tokens[name], computed[name]
            positions = list(range(before, before + count))
            self.state.parts.append((name, slice(at, at + count), positions))
            ids += self.tokens[name][before : before + count]
            places += positions
            at += count
            last.append(at - 1)
        call = self.model if self.eager else self.model.forward
        if not self.eager:
            hooks = [(m, m._forward_hooks, m._forward_pre_hooks) for m in self.model.modules()]
            for module, _, _ in hooks:
                module._forward_hooks, module._forward_pre_hooks = {}, {}
        # A runner pads its rows.
        pad = lambda values: torch.tensor(values)
        self.prepared(order)
        hidden = call(input_ids=pad(ids), positions=pad(places)) + self.broken
        if not self.eager:
            for module, after, before in hooks:
                module._forward_hooks, module._forward_pre_hooks = after, before
        self.state.note("final_norm", hidden)
        self.waiting = order, hidden, places, last
        return self.after()

    def prepared(self, order):
        """Inputs are ready, before the model is called."""

    def after(self):
        return self.sample_tokens(None)

    @torch.inference_mode()
    def sample_tokens(self, _):
        order, hidden, places, last = self.waiting
        logits = self.model.compute_logits(hidden[last])
        # Prompts' log-probabilities go through the same function later.
        self.model.compute_logits(hidden)
        chosen = {}
        for i, name in enumerate(order):
            self.state.truth[name, "logits", places[last[i]]] = logits[i].clone()
            if places[last[i]] == len(self.tokens[name]) - 1:
                chosen[name] = int(logits[i].argmax())
                self.tokens[name].append(chosen[name])
        return chosen


class RunnerV2(Runner):
    """Model runner V2: its batch is what `prepare_inputs` returns, and logits come when tokens are sampled."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._batch = self.__dict__.pop("input_batch")

    def __getattribute__(self, name):
        # `execute_model` sets `input_batch.req_ids`; from outside there is none.
        if name == "input_batch" and not object.__getattribute__(self, "__dict__").get("busy"):
            raise AttributeError(name)
        return object.__getattribute__(self, "_batch" if name == "input_batch" else name)

    def execute_model(self, output, intermediate_tensors=None):
        self.busy = True
        try:
            return super().execute_model(output, intermediate_tensors)
        finally:
            self.busy = False

    def prepare_inputs(self, order):
        return types.SimpleNamespace(req_ids=order)

    def prepared(self, order):
        self.busy = False
        self.prepare_inputs(order)

    def after(self):
        return None


class Worker:
    """`WorkerBase` as far as it is used."""

    def __init__(self, rank, ranks, eager, folder, runner=Runner):
        hf = types.SimpleNamespace(
            num_hidden_layers=LAYERS,
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            head_dim=HEAD,
        )
        self.rank, self.device, self.model_runner = rank, torch.device("cpu"), runner(rank, ranks, eager)
        self.vllm_config = types.SimpleNamespace(
            model_config=types.SimpleNamespace(
                enforce_eager=eager, dtype=torch.bfloat16, quantization=None, model=folder, hf_config=hf
            ),
            parallel_config=types.SimpleNamespace(
                tensor_parallel_size=ranks, pipeline_parallel_size=1, enable_expert_parallel=False
            ),
            compilation_config=types.SimpleNamespace(
                cudagraph_mode="CUDAGraphMode.NONE" if eager else "CUDAGraphMode.FULL_AND_PIECEWISE",
                mode="CompilationMode.NONE" if eager else "CompilationMode.VLLM_COMPILE",
            ),
            cache_config=types.SimpleNamespace(cache_dtype="auto", enable_prefix_caching=False),
        )

    def get_model(self):
        return self.model_runner.model

    def execute_model(self, output):
        return self.model_runner.execute_model(output)

    def sample_tokens(self, output):
        return self.model_runner.sample_tokens(output)


class SamplingParams(types.SimpleNamespace):
    """Fields that tell how tokens are chosen, with vLLM's defaults."""

    def __init__(self, **more):
        usual = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "seed": None, "ignore_eos": False}
        usual |= {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "min_tokens": 0}
        usual |= {"logit_bias": None, "stop_token_ids": [], "allowed_token_ids": None, "prompt_logprobs": None}
        super().__init__(**usual | {"_bad_words_token_ids": None, "_eos_token_id": None} | more)


class InputProcessor:
    """Takes parameters over as vLLM does: a copy, with the model's own ends."""

    EOS, ENDS = 39, [39, 38]

    def process_inputs(self, request_id, prompt, params):
        taken = SamplingParams(**vars(params))
        if not taken.ignore_eos:
            taken._eos_token_id = self.EOS
            taken.stop_token_ids = [*taken.stop_token_ids, *(end for end in self.ENDS if end != self.EOS)]
        return types.SimpleNamespace(request_id=request_id, sampling_params=taken)


class LLM:
    """`LLM`: hands prompts to ranks in steps. `plan` gets the call's number; see `together` and `one_first`."""

    def __init__(self, extension, ranks=1, eager=True, folder="", plan=None, runner=Runner):
        # As vLLM adds an extension: to the bases, and only if no name is taken.
        base = type("Worker", (Worker,), {})
        assert not [n for n in dir(extension) if not n.startswith("__") and hasattr(base, n)]
        kind = type("Extended", (base, extension), {})
        self.workers = [kind(rank, ranks, eager, folder, runner) for rank in range(ranks)]
        self.plan, self.calls, self.count = plan or (lambda call: together), 0, 0
        self.llm_engine = types.SimpleNamespace(input_processor=InputProcessor())

    def collective_rpc(self, method, timeout=None, args=(), kwargs=None):
        return [getattr(worker, method)(*args, **(kwargs or {})) for worker in self.workers]

    def generate(self, prompts, sampling):
        names = [f"{self.count + i}-{i * 77:08x}" for i in range(len(prompts))]
        self.count += len(prompts)
        for number, name in enumerate(names):
            given = sampling[number] if isinstance(sampling, list) else sampling
            self.llm_engine.input_processor.process_inputs(name, prompts[number], given)
        sampling = sampling[0] if isinstance(sampling, list) else sampling
        waiting = {name: list(prompt["prompt_token_ids"]) for name, prompt in zip(names, prompts)}
        lengths, computed, output = {n: len(p) for n, p in waiting.items()}, {}, {n: [] for n in names}
        start = self.plan(self.calls)
        self.calls += 1
        step = 0
        while any(len(output[name]) < sampling.max_tokens for name in names):
            begins = [name for name in names if name not in computed and start(names.index(name)) <= step]
            goes_on = [name for name in names if name in computed and len(output[name]) < sampling.max_tokens]
            new = [
                types.SimpleNamespace(req_id=name, prompt_token_ids=waiting[name], num_computed_tokens=0)
                for name in begins
            ]
            cached = types.SimpleNamespace(req_ids=goes_on, num_computed_tokens=[computed[name] for name in goes_on])
            counts = {name: lengths[name] for name in begins} | {name: 1 for name in goes_on}
            scheduled = types.SimpleNamespace(
                scheduled_new_reqs=new,
                scheduled_cached_reqs=cached,
                num_scheduled_tokens=counts,
                scheduled_spec_decode_tokens={},
            )
            chosen = [worker.execute_model(scheduled) for worker in self.workers]
            chosen = [x or worker.sample_tokens(None) for x, worker in zip(chosen, self.workers)][0]
            for name, count in counts.items():
                computed[name] = computed.get(name, 0) + count
            for name, token in chosen.items():
                output[name].append(token)
            step += 1
        return [
            types.SimpleNamespace(
                outputs=[types.SimpleNamespace(token_ids=output[name])],
                request_id=name,
                prompt_logprobs=self._prompt_logprobs(name, waiting[name], getattr(sampling, "prompt_logprobs", None)),
            )
            for name in names
        ]

    @torch.no_grad()
    def _prompt_logprobs(self, name, prompt, count):
        """As vLLM gives them: by token, with rank, the prompt's own token too; none for the first."""
        if not count:
            return None
        runner, found = self.workers[0].model_runner, [None]
        for position, token in enumerate(prompt[1:]):
            hidden = runner.state.truth[name, "final_norm", position]
            values = torch.log_softmax((hidden @ runner.model.head.T).float(), -1)
            order = values.argsort(descending=True, stable=True).tolist()
            entries = {}
            for chosen in [token, *order[:count]]:
                rank, value = order.index(chosen) + 1, float(values[chosen])
                entries[chosen] = types.SimpleNamespace(rank=rank, logprob=value)
            found.append(entries)
        return found


def together(_):
    """All requests begin in the first step."""
    return 0


def one_first(request):
    """The first request begins alone, the others a step later."""
    return 0 if request == 0 else 1
