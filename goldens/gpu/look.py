"""What passes each site of a stock transformers model, as Mantissa names sites (crates/numerics/src/site.rs).

Nothing is changed: hooks of modules, and functions that are wrapped to look at what they return. Families that
Mantissa computes but DeepSeek, whose cache holds no keys."""

import sys

import torch

POINTS = ["embed_out", "x_in", "q", "k", "v", "attn_out", "x_after_attn", "ffn_norm", "router_logits", "router_topk"]
POINTS += ["mlp_out", "x_out", "final_norm", "logits"]


def points_of(family):
    """The points that a family has: `record` refuses others. OLMo 2 does not norm what its MLP reads."""
    routes = family in ("qwen3_moe", "mixtral", "gpt_oss")
    return [
        point for point in POINTS if (routes or "router" not in point) and (family != "olmo2" or point != "ffn_norm")
    ]


class Look:
    """Keeps the last positions of row 0 at every site of a forward pass. `with Look(model, 3) as look: model(…); look.seen[site]`.

    The sites outside the blocks are `embed_out`, `final_norm` and, once `logits` was called, `logits`.
    """

    def __init__(self, model, positions):
        self.model, self.positions = model, positions
        self.seen, self.layer, self.length, self.hooks = {}, 0, 0, []
        # Where row 0 ends, if it is not as long as its batch.
        self.end = None

    def __enter__(self):
        inner = self.model.model
        self.after(inner.embed_tokens, "embed_out")
        self.after(inner.norm, "final_norm")
        for number, block in enumerate(inner.layers, 1):
            self.block(block, f"layer_{number}.", number)
        module = sys.modules[type(self.model).__module__]
        rotate = module.apply_rotary_pos_emb

        def looked(*arguments, **more):
            q, k = rotate(*arguments, **more)
            for name, x in (("q", q), ("k", k)):
                self.put(f"layer_{self.layer}.{name}", x.transpose(1, 2).flatten(2))
            return q, k

        module.apply_rotary_pos_emb = looked
        self.restore = lambda: setattr(module, "apply_rotary_pos_emb", rotate)
        return self

    def __exit__(self, *_):
        self.restore()
        for hook in self.hooks:
            hook.remove()

    def block(self, block, at, number):
        attention, mlp = block.self_attn, block.mlp
        self.hooks.append(block.register_forward_pre_hook(self.enter(at, number), with_kwargs=True))
        self.after(attention.o_proj, at + "attn_out")
        if hasattr(attention, "qkv_proj"):
            # Queries, keys, values, one after the other.
            width = attention.num_key_value_heads * attention.head_dim
            self.after(attention.qkv_proj, at + "v", lambda x: x[..., -width:])
        else:
            self.after(attention.v_proj, at + "v")
        if hasattr(block, "pre_feedforward_layernorm"):
            self.before(block.pre_feedforward_layernorm, at + "x_after_attn")
            self.after(block.pre_feedforward_layernorm, at + "ffn_norm")
        elif hasattr(block, "input_layernorm"):
            self.before(block.post_attention_layernorm, at + "x_after_attn")
            self.after(block.post_attention_layernorm, at + "ffn_norm")
        else:
            # OLMo 2 norms what comes out; its MLP reads the residual stream.
            self.before(mlp, at + "x_after_attn")
        router = getattr(mlp, "router", getattr(mlp, "gate", None))
        if router is not None:
            self.hooks.append(router.register_forward_hook(self.routed(at)))
        self.after(mlp, at + "mlp_out")
        self.after(block, at + "x_out")

    def enter(self, at, number):
        def hook(module, inputs, more):
            self.layer = number
            x = inputs[0] if inputs else more["hidden_states"]
            self.length = x.shape[1]
            self.put(at + "x_in", x)

        return hook

    def after(self, module, site, part=lambda x: x):
        hook = lambda _, inputs, output: self.put(site, part(output[0] if isinstance(output, tuple) else output))
        self.hooks.append(module.register_forward_hook(hook))

    def before(self, module, site):
        self.hooks.append(module.register_forward_pre_hook(lambda _, inputs: self.put(site, inputs[0])))

    def routed(self, at):
        """A router returns logits, weights and experts of the rows of all sequences, one after the other."""

        def hook(_, inputs, output):
            logits, weights, experts = (x.unflatten(0, (-1, self.length)) for x in output)
            self.put(at + "router_logits", logits)
            self.put(at + "router_topk", torch.cat([experts.to(weights.dtype), weights], dim=-1))

        return hook

    def put(self, site, x):
        self.seen[site] = x[0, : self.end][-self.positions :].detach().clone()

    def logits(self, output):
        """Keeps what the model returned; Gemma 2 bounds its logits after `lm_head`."""
        self.put("logits", output.logits)
