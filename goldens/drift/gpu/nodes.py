"""What the modules inside a block of vLLM leave, finer than sites, and the same computed by transformers' modules.

`NodesExtension` is a capture's worker extension that also keeps, of every block, what each module was given and left.
`tried()` computes each node from vLLM's own inputs in several ways and counts the values that differ from vLLM's: so
the table says which way of computing is vLLM's, whatever the nodes before it left.
"""

import io

import torch

from mantissa_forensics.vllm.worker import WorkerExtension

# In the order of a block.
NODES = ("x_in", "norm", "qkv", "q", "k", "v", "attention", "attn_out", "x_after_attn", "ffn_norm", "gate_up", "act")
NODES += ("mlp_out",)
# Versions of FlashAttention that could not be called, and why.
UNTRIED = {}


def hooks(blocks, keep):
    """Hooks on vLLM's blocks; `keep(layer, node, rows)`. Returns what removes them."""
    undo, first = [], lambda x: x[0] if isinstance(x, tuple) else x

    def after(module, act):
        undo.append(module.register_forward_hook(lambda m, inputs, output: act(inputs, output)).remove)

    for number, block in enumerate(blocks):
        put = lambda node, x, number=number: keep(number, node, x.reshape(x.shape[0], -1))

        def normed(inputs, output, put=put):
            # Without a residual (first block) it was given the stream itself.
            put("x_in", output[1] if isinstance(output, tuple) else inputs[0])
            put("norm", first(output))

        def middle(inputs, output, put=put):
            put("x_after_attn", output[1])
            put("ffn_norm", output[0])

        def given(_, inputs, more, put=put):
            named = dict(zip(("query", "key", "value"), inputs), **more)
            for node, name in (("q", "query"), ("k", "key"), ("v", "value")):
                put(node, named[name])

        after(block.input_layernorm, normed)
        after(block.post_attention_layernorm, middle)
        attention, mlp = block.self_attn, block.mlp
        undo.append(attention.attn.register_forward_pre_hook(given, with_kwargs=True).remove)
        modules = {"qkv": attention.qkv_proj, "attention": attention.attn, "attn_out": attention.o_proj}
        modules |= {"gate_up": mlp.gate_up_proj, "act": mlp.act_fn, "mlp_out": mlp.down_proj}
        for node, module in modules.items():
            after(module, lambda inputs, output, node=node, put=put: put(node, first(output)))
    return undo


class NodesExtension(WorkerExtension):
    """`mantissa_nodes_begin` and `mantissa_nodes_end` around a `generate`."""

    def mantissa_nodes_begin(self):
        self._mantissa_nodes = found = {}

        def keep(layer, node, rows):
            found.setdefault((layer, node), []).append(rows.detach().clone())

        self._mantissa_undo = hooks(self.get_model().model.layers, keep)

    def mantissa_nodes_end(self):
        """Passes of each (layer, node), as bytes."""
        for undo in self._mantissa_undo:
            undo()
        found, self._mantissa_nodes = self._mantissa_nodes, None
        file = io.BytesIO()
        torch.save({key: [x.cpu() for x in passes] for key, passes in found.items()}, file)
        return file.getvalue()


def of_transformers(causal, prompt, forced):
    """The same of a transformers model, with fused products, to try the table without vLLM."""
    found = {}
    put = lambda layer, node, x: found.setdefault((layer, node), []).append(x[0].reshape(x.shape[1], -1).clone())
    home = __import__(type(causal).__module__, fromlist=["x"])
    rotate, undo, now = home.apply_rotary_pos_emb, [], {}
    heads = lambda x: x.transpose(1, 2).flatten(2)

    def looked(q, k, *arguments, **more):
        turned = rotate(q, k, *arguments, **more)
        for node, x in zip(("q", "k"), turned):
            put(now["layer"], node, heads(x))
        return turned

    home.apply_rotary_pos_emb = looked
    for number, block in enumerate(causal.model.layers):
        attention, mlp, parts = block.self_attn, block.mlp, {}
        after = lambda module, act: undo.append(module.register_forward_hook(act).remove)
        put_as = lambda node, number=number: lambda m, i, o: put(number, node, o[0] if isinstance(o, tuple) else o)

        def begin(m, i, number=number):
            now["layer"] = number
            put(number, "x_in", i[0])

        def norm(m, i, o, number=number):
            put(number, "x_after_attn", i[0])
            put(number, "ffn_norm", o)

        undo.append(block.input_layernorm.register_forward_pre_hook(begin).remove)
        after(block.input_layernorm, put_as("norm"))
        after(block.post_attention_layernorm, norm)
        for fused, modules in (("qkv", ("q", "k", "v")), ("gate_up", ("gate", "up"))):
            for part in modules:

                def half(m, i, o, parts=parts, part=part, fused=fused, modules=modules, number=number):
                    parts[part] = o
                    if part == "v":
                        put(number, "v", o)
                    if part == modules[-1]:
                        put(number, fused, torch.cat([parts[one] for one in modules], -1))

                after(getattr(attention if fused == "qkv" else mlp, f"{part}_proj"), half)
        before = lambda module, node: undo.append(
            module.register_forward_pre_hook(lambda m, i, number=number: put(number, node, i[0])).remove
        )
        before(attention.o_proj, "attention")
        before(mlp.down_proj, "act")
        after(attention.o_proj, put_as("attn_out"))
        after(mlp.down_proj, put_as("mlp_out"))
    device = next(causal.parameters()).device
    with torch.no_grad():
        out = causal(input_ids=torch.tensor([prompt], device=device), use_cache=True)
        for token in forced:
            given = {"input_ids": torch.tensor([[token]], device=device), "use_cache": True}
            out = causal(past_key_values=out.past_key_values, **given)
    for step in undo:
        step()
    home.apply_rotary_pos_emb = rotate
    return {key: [x.cpu() for x in passes] for key, passes in found.items()}


# ---- ways to compute a node ------------------------------------------------------------------------------------------


def norms(module, x):
    """RMSNorm in the orders that programs have."""
    eps, weight, wide = module.variance_epsilon, module.weight, x.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return {
        "transformers: rounded, then times the weight": module(x),
        "times the weight in binary32, rounded once": (scaled * weight.float()).to(x.dtype),
        "torch.nn.functional.rms_norm": torch.nn.functional.rms_norm(x, x.shape[-1:], weight, eps),
    }


def products(x, *modules):
    """One product for each weight, and one of all."""
    linear = torch.nn.functional.linear
    return {
        "transformers: a product for each weight": torch.cat([module(x) for module in modules], -1),
        "one product of all weights": linear(x, torch.cat([module.weight for module in modules])),
    }


def rotations(x, width, cos, sin):
    """*Shape:* `x` `[rows, heads · width]`, angles `[rows, width]` in binary32."""
    heads = x.reshape(x.shape[0], -1, width)
    half = width // 2
    turned = torch.cat([-heads[..., half:], heads[..., :half]], -1)
    c, s = (angle.to(x.dtype)[:, None] for angle in (cos, sin))
    wide = lambda a, b: heads.float() * a + turned.float() * b
    ways = {
        "transformers: each product rounded": heads * c + turned * s,
        "rounded angles, rounded once": wide(c.float(), s.float()).to(x.dtype),
        "binary32 angles, rounded once": wide(cos[:, None], sin[:, None]).to(x.dtype),
    }
    # One product is exact inside the addition, as a fused multiplication leaves it.
    first = (heads.double() * c.double() + (turned * s).double()).to(x.dtype)
    second = ((heads * c).double() + turned.double() * s.double()).to(x.dtype)
    ways |= {"second product rounded, first fused": first, "first product rounded, second fused": second}
    return {name: way.reshape(x.shape) for name, way in ways.items()}


def attentions(q, k, v, shape):
    """`q` of the last rows, `k` and `v` of all. *Shape:* `[rows, heads · width]`."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    heads, kv_heads, width = shape
    split = lambda x, count: x.reshape(x.shape[0], count, width).transpose(0, 1)[None]
    query, key, value = split(q, heads), split(k, kv_heads), split(v, kv_heads)
    repeat = lambda x: x.repeat_interleave(heads // kv_heads, dim=1)
    rows, keys = q.shape[0], k.shape[0]
    seen = torch.ones(rows, keys, dtype=torch.bool, device=q.device).tril(keys - rows)
    scores = torch.matmul(query, repeat(key).transpose(2, 3)) * width**-0.5
    mask = torch.zeros(rows, keys, dtype=q.dtype, device=q.device).masked_fill(~seen, torch.finfo(q.dtype).min)
    weights = torch.softmax(scores + mask, dim=-1, dtype=torch.float32).to(q.dtype)
    flat = lambda x: x[0].transpose(0, 1).reshape(rows, -1)
    ways = {"transformers: eager": flat(torch.matmul(weights, repeat(value)))}
    backends = ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH")
    for name in backends:
        try:
            with sdpa_kernel([getattr(SDPBackend, name)]):
                more = {"is_causal": rows > 1} if rows == keys else {}
                found = torch.nn.functional.scaled_dot_product_attention(query, repeat(key), repeat(value), **more)
        except RuntimeError:
            continue
        ways[f"sdpa: {name.lower()}"] = flat(found)
    for version in (2, 3):
        try:
            from vllm.vllm_flash_attn import flash_attn_varlen_func

            ends = [torch.tensor([0, n], dtype=torch.int32, device=q.device) for n in (rows, keys)]
            more = {"max_seqlen_q": rows, "cu_seqlens_q": ends[0], "max_seqlen_k": keys, "cu_seqlens_k": ends[1]}
            more |= {"causal": True, "softmax_scale": width**-0.5, "fa_version": version}
            found = flash_attn_varlen_func(*(x[0].transpose(0, 1).contiguous() for x in (query, key, value)), **more)
        except Exception as error:
            # Not there, or of another interface: the table goes without it.
            if version not in UNTRIED:
                UNTRIED[version] = f"{type(error).__name__}: {error}"
            continue
        found = found[0] if isinstance(found, tuple) else found
        ways[f"vLLM's FlashAttention {version}, keys in one piece"] = found.reshape(rows, -1)
    return ways


def tried(causal, nodes):
    """`{node: {way: [values, differing by layer]}}` for the prompt's pass and for all decode steps."""
    config, device = causal.config, next(causal.parameters()).device
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = config.num_attention_heads, config.num_key_value_heads, width
    found = {"prefill": {}, "decode": {}}
    steps = len(nodes[0, "x_in"])
    lengths = [len(x) for x in nodes[0, "x_in"]]
    for layer, block in enumerate(causal.model.layers):
        attention, mlp, cached = block.self_attn, block.mlp, {"k": [], "v": []}
        for step in range(steps):
            at = {node: nodes[layer, node][step].to(device) for node in NODES}
            start = sum(lengths[:step])
            places = torch.arange(start, start + lengths[step], device=device)[None]
            angles = places.float()[0, :, None] * causal.model.rotary_emb.inv_freq.float()[None]
            angles = torch.cat([angles, angles], -1)
            cos, sin = angles.cos(), angles.sin()
            for name in cached:
                cached[name].append(at[name])
            q, k, v = at["qkv"].split([n * width for n in (shape[0], shape[1], shape[1])], -1)
            gate, up = at["gate_up"].chunk(2, -1)
            wide = torch.nn.functional.silu(gate.float())
            linear = torch.nn.functional.linear
            ways = {
                "norm": norms(block.input_layernorm, at["x_in"]),
                "qkv": products(at["norm"], attention.q_proj, attention.k_proj, attention.v_proj),
                "q": rotations(q, width, cos, sin),
                "k": rotations(k, width, cos, sin),
                "v": {"transformers: as it left the product": v},
                "attention": attentions(at["q"], *(torch.cat(cached[n]) for n in ("k", "v")), shape),
                "attn_out": {"transformers: product": attention.o_proj(at["attention"])},
                "x_after_attn": {"transformers: rounded sum": at["x_in"] + at["attn_out"]},
                "ffn_norm": norms(block.post_attention_layernorm, at["x_after_attn"]),
                "gate_up": products(at["ffn_norm"], mlp.gate_proj, mlp.up_proj),
                "act": {
                    "transformers: activation rounded, then times up": mlp.act_fn(gate) * up,
                    "rounded once": (wide * up.float()).to(gate.dtype),
                },
                "mlp_out": {
                    "transformers: product": mlp.down_proj(at["act"]),
                    "product of contiguous rows": linear(at["act"].contiguous(), mlp.down_proj.weight),
                },
            }
            phase = found["prefill" if step == 0 else "decode"]
            for node, several in ways.items():
                for way, x in several.items():
                    entry = phase.setdefault(node, {}).setdefault(way, {"values": 0, "differing": {}})
                    count = int((x.contiguous().view(torch.int16) != at[node].contiguous().view(torch.int16)).sum())
                    entry["values"] += x.numel()
                    entry["differing"][layer] = entry["differing"].get(layer, 0) + count
    return found
