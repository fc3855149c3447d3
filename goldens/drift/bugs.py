"""Bugs that can be planted into one layer of a model of transformers, each by replacing a function while it is open.

Weights in memory stay those of the folder: the program is wrong, not the checkpoint. A bug is a context manager
`plant(at, variant)` with `at` the place (`At`); its variants say in words what is wrong. Kinds are the names of the
hypotheses of `mantissa drift`; those of `UNLISTED` are none of them.
"""

import contextlib
import dataclasses
import sys

import torch
from torch.nn import functional

DENSE, EVERY = ("llama", "qwen2"), ("llama", "qwen2", "qwen3_moe")


@dataclasses.dataclass
class At:
    """Where a bug is planted. `layer` counts from 0; `draw` is a generator of random numbers."""

    model: object
    layer: int
    draw: object

    @property
    def block(self):
        return self.model.model.layers[self.layer]

    @property
    def attention(self):
        return self.block.self_attn

    @property
    def module(self):
        """The Python module that attention takes its functions from."""
        return sys.modules[type(self.attention).__module__]


@dataclasses.dataclass
class Bug:
    plant: object
    variants: tuple
    families: tuple = EVERY
    # Further variants where the MLP is dense.
    dense: tuple = ()
    # Decode steps that are needed to see it.
    steps: int = 0
    # The first layer that can have it, from 0; `None`: outside the layers.
    first: int | None = 0

    def variants_of(self, family):
        return self.variants + (self.dense if family in DENSE else ())


@contextlib.contextmanager
def replaced(owner, name, function):
    """`owner.name` is `function` while this is open."""
    own, before = name in vars(owner), getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield before
    finally:
        setattr(owner, name, before) if own else delattr(owner, name)


# ---- attention -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def attending(at, change):
    """In the layer, attention is `change(plain, query, key, value, mask, scaling)`; elsewhere as it was."""
    plain = at.module.eager_attention_forward

    def attend(module, query, key, value, mask, scaling, **more):
        if module is not at.attention:
            return plain(module, query, key, value, mask, scaling=scaling, **more)
        call = lambda query=query, key=key, value=value, mask=mask, scaling=scaling: plain(
            module, query, key, value, mask, scaling=scaling, **more
        )
        return change(call, query, key, value, mask, scaling)

    with replaced(at.module, "eager_attention_forward", attend):
        yield


def softened(at, query, key, value, mask, scaling, soften):
    """Eager attention with `soften` in the place of softmax, from scores to probabilities."""
    repeat = at.module.repeat_kv
    groups = at.attention.num_key_value_groups
    scores = torch.matmul(query, repeat(key, groups).transpose(2, 3)) * scaling
    scores = scores if mask is None else scores + mask
    out = torch.matmul(soften(scores).to(value.dtype), repeat(value, groups))
    return out.transpose(1, 2).contiguous(), None


def mask_off_by_one(at, variant):
    def change(call, query, key, value, mask, scaling):
        rows, keys = query.shape[2], key.shape[2]
        own = torch.arange(keys - rows, keys)
        shift = 1 if variant == "sees one key more" else -1
        # The first position has no other key than its own.
        last = (own + shift).clamp(min=0)
        seen = torch.arange(keys)[None] <= last[:, None]
        return call(mask=torch.where(seen, 0.0, torch.finfo(query.dtype).min).to(query.dtype)[None, None])

    return attending(at, change)


def attention_scale(at, variant):
    def change(call, query, key, value, mask, scaling):
        return call(scaling=1.0 if variant == "missing" else scaling * scaling)

    return attending(at, change)


@contextlib.contextmanager
def other_layer_cache(at, variant):
    """Keys or values of the layer before."""
    plain = at.module.eager_attention_forward
    which = 0 if variant == "keys of the layer before" else 1
    before = {}

    def attend(module, query, key, value, mask, **more):
        if module is at.attention:
            key, value = (before[0], value) if which == 0 else (key, before[1])
        elif module.layer_idx == at.layer - 1:
            before.update({0: key, 1: value})
        return plain(module, query, key, value, mask, **more)

    with replaced(at.module, "eager_attention_forward", attend):
        yield


def other_head_cache(at, variant):
    def change(call, query, key, value, mask, scaling):
        if variant == "keys of the next group":
            return call(key=key.roll(1, 1))
        if variant == "values of the next group":
            return call(value=value.roll(1, 1))
        # Head h has group h mod groups, where it should be h div (heads / groups).
        groups, times = key.shape[1], at.attention.num_key_value_groups
        order = torch.arange(groups * times) % groups
        with replaced(at.attention, "num_key_value_groups", 1):
            return call(key=key[:, order], value=value[:, order])

    return attending(at, change)


def stale_cache(at, variant):
    """In decode, the newest slot still holds what the step before had."""

    def change(call, query, key, value, mask, scaling):
        if query.shape[2] > 1:
            return call()
        stale = lambda x: torch.cat([x[:, :, :-1], x[:, :, -2:-1]], dim=2)
        if variant == "key of the step before":
            return call(key=stale(key))
        if variant == "value of the step before":
            return call(value=stale(value))
        return call(key=stale(key), value=stale(value))

    return attending(at, change)


def shifted_cache(at, variant):
    """In decode, keys (or values) lie a slot further than the values (or keys)."""

    def change(call, query, key, value, mask, scaling):
        if query.shape[2] > 1:
            return call()
        return call(key=key.roll(1, 2)) if variant == "keys a slot further" else call(value=value.roll(1, 2))

    return attending(at, change)


def attention_sink(at, variant):
    def change(call, query, key, value, mask, scaling):
        def soften(scores):
            sink = torch.ones_like(scores[..., :1], dtype=torch.float32)
            return torch.softmax(torch.cat([scores.float(), sink], dim=-1), dim=-1)[..., :-1]

        return softened(at, query, key, value, mask, scaling, soften)

    return attending(at, change)


def head_order(at, variant):
    def change(call, query, key, value, mask, scaling):
        out, weights = call()
        return out.flip(2), weights

    return attending(at, change)


# ---- positions -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def rotating(at, rotate):
    """In the layer, queries and keys are `rotate(plain, query, key, cos, sin, positions)`; elsewhere as they were."""
    plain, forward = at.module.apply_rotary_pos_emb, at.attention.forward
    inside = []

    def attend(*arguments, **more):
        inside.append(more["position_ids"])
        try:
            return forward(*arguments, **more)
        finally:
            inside.pop()

    def turned(query, key, cos, sin, *more, **words):
        if not inside:
            return plain(query, key, cos, sin, *more, **words)
        return rotate(plain, query, key, cos, sin, inside[-1])

    with replaced(at.attention, "forward", attend), replaced(at.module, "apply_rotary_pos_emb", turned):
        yield


def rope_position(at, variant):
    embedding = at.model.model.rotary_emb

    def rotate(plain, query, key, cos, sin, positions):
        words = variant.split()
        off = embedding(query, positions + (1 if words[-1] == "later" else -1))
        right = plain(query, key, cos, sin)
        wrong = plain(query, key, *off)
        return {
            "queries": (wrong[0], right[1]),
            "keys": (right[0], wrong[1]),
            "both": wrong,
        }[words[0]]

    return rotating(at, rotate)


def rope_base(at, variant):
    def rotate(plain, query, key, cos, sin, positions):
        width = query.shape[-1]
        frequencies = 1.0 / (float(variant) ** (torch.arange(0, width, 2, dtype=torch.float) / width))
        angles = positions[:, :, None].float() * frequencies
        angles = torch.cat([angles, angles], dim=-1)
        return plain(query, key, angles.cos().to(query.dtype), angles.sin().to(query.dtype))

    return rotating(at, rotate)


def rope_interleaved(at, variant):
    """Pairs are neighbours, where they should be half a head apart."""

    def rotate(plain, query, key, cos, sin, positions):
        half = cos.shape[-1] // 2
        cos, sin = (x[..., :half].repeat_interleave(2, dim=-1).unsqueeze(1) for x in (cos, sin))
        turn = lambda x: torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        return tuple(x * cos + turn(x) * sin for x in (query, key))

    return rotating(at, rotate)


# ---- weights ---------------------------------------------------------------------------------------------------------


def missing_bias(at, variant):
    projection = at.attention.get_submodule(variant)
    return replaced(projection, "forward", lambda x: functional.linear(x, projection.weight))


def transposed_weight(at, variant):
    projection = at.attention.get_submodule(variant)
    forward = lambda x: functional.linear(x, projection.weight.T.contiguous(), projection.bias)
    return replaced(projection, "forward", forward)


def quantization_scale(at, variant):
    """The scale of the neighbouring group: of every group, or of the last one alone."""
    name, which = variant.split(", ")
    projection = at.block.get_submodule(name)
    groups = torch.arange(len(projection.scales))
    wrong = groups.roll(1) if which == "every group" else torch.cat([groups[:-1], groups[-2:-1]])
    return replaced(projection, "forward", lambda x: functional.linear(x, projection.weight_of(wrong), projection.bias))


def wrong_token(at, variant):
    embedding = at.model.model.embed_tokens
    place = []

    def forward(ids):
        if not place:
            place.append(int(at.draw.integers(ids.shape[1])))
        ids = ids.clone()
        if ids.shape[1] > 1:
            ids[0, place[0]] = (ids[0, place[0]] + 1) % embedding.num_embeddings
        return functional.embedding(ids, embedding.weight)

    return replaced(embedding, "forward", forward)


# ---- norms, residuals, casts -----------------------------------------------------------------------------------------


def residual_source(at, variant):
    """The residual is what the norm gave, not what it was given."""
    block = at.block

    def forward(hidden_states, **more):
        normed = block.input_layernorm(hidden_states)
        out, _ = block.self_attn(hidden_states=normed, **more)
        stream = (normed if variant == "of attention" else hidden_states) + out
        normed = block.post_attention_layernorm(stream)
        return (normed if variant == "of the MLP" else stream) + block.mlp(normed)

    return replaced(block, "forward", forward)


def norm_epsilon(at, variant):
    norm, _, epsilon = variant.partition(" ")
    return replaced(at.block.get_submodule(norm), "variance_epsilon", float(epsilon))


def cast_order(at, variant):
    what, _, where = variant.partition(" of ")
    if what.startswith("scores"):
        return attending(at, lambda call, *inputs: softened(at, *_cast(what, *inputs)))
    if what.startswith("rotation"):

        def rotate(plain, query, key, cos, sin, positions):
            turned = plain(query.float(), key.float(), cos.float(), sin.float())
            return tuple(x.to(query.dtype) for x in turned)

        return rotating(at, rotate)
    if what.startswith("SiLU"):
        mlp = at.block.mlp

        def forward(x):
            inner = functional.silu(mlp.gate_proj(x).float()) * mlp.up_proj(x).float()
            return mlp.down_proj(inner.to(x.dtype))

        return replaced(mlp, "forward", forward)
    norm = at.block.get_submodule(where)

    def forward(x):
        if what == "variance in bf16":
            variance = (x * x).mean(-1, keepdim=True)
            return norm.weight * (x * torch.rsqrt(variance + norm.variance_epsilon))
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
        return (norm.weight.float() * wide).to(x.dtype)

    return replaced(norm, "forward", forward)


def _cast(what, query, key, value, mask, scaling):
    """Inputs of `softened` where scores stay in f32, or their exponentials are rounded to bf16."""
    if what == "scores in f32":
        query, key = query.float(), key.float()
        return query, key, value, mask, scaling, lambda scores: torch.softmax(scores, dim=-1)

    def soften(scores):
        powers = (scores - scores.amax(-1, keepdim=True)).exp()
        return powers / powers.sum(-1, keepdim=True)

    return query, key, value, mask, scaling, soften


# ---- MLPs and experts ------------------------------------------------------------------------------------------------


def other_expert(at, variant):
    router = at.block.mlp.gate
    plain, count = router.forward, router.top_k

    def forward(x):
        logits, weights, experts = plain(x)
        if variant == "second best for third best":
            return logits, *_chosen(router, logits, [0, *range(2, count + 1)])
        if variant == "noise before the choice":
            noise = torch.from_numpy(at.draw.standard_normal(tuple(logits.shape))).to(logits.dtype)
            return logits, *_chosen(router, logits + noise, range(count))
        experts = experts.clone()
        free = [next(e for e in range(router.num_experts) if e not in row) for row in experts.tolist()]
        experts[:, -1] = torch.tensor(free)
        return logits, weights, experts

    return replaced(router, "forward", forward)


def _chosen(router, logits, ranks):
    """Weights and experts of these ranks, as the router makes them of the first ones."""
    values, experts = torch.softmax(logits.float(), dim=-1).topk(router.top_k + 1, dim=-1)
    values, experts = values[:, list(ranks)], experts[:, list(ranks)]
    if router.norm_topk_prob:
        values = values / values.sum(-1, keepdim=True)
    return values.to(logits.dtype), experts


def gelu_for_silu(at, variant):
    owner = at.block.mlp.experts if hasattr(at.block.mlp, "experts") else at.block.mlp
    return replaced(owner.act_fn, "forward", functional.gelu)


def gate_and_up_swapped(at, variant):
    mlp = at.block.mlp
    return replaced(mlp, "forward", lambda x: mlp.down_proj(mlp.act_fn(mlp.up_proj(x)) * mlp.gate_proj(x)))


# ---- the list --------------------------------------------------------------------------------------------------------

_NORMS = ("input_layernorm", "post_attention_layernorm")
_EPSILONS = ("post_attention_layernorm 1e-5", "input_layernorm 1e-2", "post_attention_layernorm 1e-3")
_EPSILONS += ("input_layernorm 1e-1", "post_attention_layernorm 1e-2", "input_layernorm 1e-5")
_CASTS = ("norm weight before the cast of input_layernorm", "scores in f32", "variance in bf16 of " + _NORMS[1])
_CASTS += ("rotation in f32", "scores' exponentials in bf16", "norm weight before the cast of " + _NORMS[1])
_POSITIONS = ("both one later", "keys one later", "queries one earlier", "both one earlier", "keys one earlier")

LISTED = {
    "mask_off_by_one": Bug(mask_off_by_one, ("sees one key more", "misses its own key")),
    "rope_position": Bug(rope_position, _POSITIONS),
    "rope_base": Bug(rope_base, ("500000", "100000", "5000")),
    "attention_scale": Bug(attention_scale, ("missing", "applied twice")),
    "other_layer_cache": Bug(other_layer_cache, ("keys of the layer before", "values of the layer before"), first=1),
    "other_head_cache": Bug(
        other_head_cache, ("keys of the next group", "values of the next group", "heads by turns")
    ),
    "stale_cache": Bug(
        stale_cache, ("key of the step before", "value of the step before", "key and value of the step before"), steps=4
    ),
    "shifted_cache": Bug(shifted_cache, ("keys a slot further", "values a slot further"), steps=4),
    "missing_bias": Bug(missing_bias, ("q_proj", "k_proj", "v_proj"), ("qwen2",)),
    "residual_source": Bug(residual_source, ("of attention", "of the MLP")),
    "norm_epsilon": Bug(norm_epsilon, _EPSILONS),
    "cast_order": Bug(cast_order, _CASTS, dense=("SiLU and product in f32",)),
    "transposed_weight": Bug(transposed_weight, ("q_proj", "o_proj")),
    "other_expert": Bug(
        other_expert,
        ("second best for third best", "first free expert for the last", "noise before the choice"),
        ("qwen3_moe",),
    ),
    "quantization_scale": Bug(
        quantization_scale,
        ("self_attn.q_proj, every group", "mlp.down_proj, last group", "self_attn.o_proj, every group"),
        ("qwen2-gptq",),
    ),
    "wrong_token": Bug(wrong_token, ("the next in number",), first=None),
}
UNLISTED = {
    "gelu_for_silu": Bug(gelu_for_silu, ("GELU for SiLU",)),
    "attention_sink": Bug(attention_sink, ("a sink of 1",)),
    "head_order": Bug(head_order, ("heads in reverse order",)),
    "gate_and_up_swapped": Bug(gate_and_up_swapped, ("SiLU of up, not of gate",), DENSE),
    "rope_interleaved": Bug(rope_interleaved, ("pairs are neighbours",)),
}
