"""Where each family of transformers has each site: names of modules, as data. What is not listed is refused by name.

Meaning of the sites: `crates/numerics/src/site.rs`. Two families with the same modules share an entry. Left out:
DeepSeek, whose cache holds no keys, and models with images, whose text model is not the outermost one.
"""

import dataclasses
import sys

from .errors import CaptureError


@dataclasses.dataclass(frozen=True)
class Family:
    """Modules of a block. A site is what enters (`<name`) or leaves (`>name`) a module; `None` where there is none."""

    x_after_attn: str = "<post_attention_layernorm"
    ffn_norm: str | None = ">post_attention_layernorm"
    # Queries, keys and values one after the other, where one product makes all three.
    fused: str | None = None
    # Of the MLP, in the blocks that route. It returns logits, weights and experts.
    router: str | None = None


_NORMS = Family()
_SANDWICH = Family("<pre_feedforward_layernorm", ">pre_feedforward_layernorm")

# By `model_type` and folder of transformers.
FAMILIES = {
    "llama": ("llama", _NORMS),
    "qwen2": ("qwen2", _NORMS),
    "qwen3": ("qwen3", _NORMS),
    "qwen3_moe": ("qwen3_moe", Family(router="gate")),
    "mistral": ("mistral", _NORMS),
    "mixtral": ("mixtral", Family(router="gate")),
    # OLMo 2 norms what comes out of attention and MLP; its MLP reads the residual stream.
    "olmo2": ("olmo2", Family("<mlp", None)),
    "phi3": ("phi3", Family(fused="qkv_proj")),
    "gemma2": ("gemma2", _SANDWICH),
    "gemma3_text": ("gemma3", _SANDWICH),
    "gpt_oss": ("gpt_oss", Family(router="router")),
}


class Anatomy:
    """The modules of one model, found and checked.

    `outer` is what callers call, `causal` the model with the head (inside PEFT's wrapper, if there is one), `inner` the
    one with the blocks, `module` the Python module that its attention takes `apply_rotary_pos_emb` from.
    """

    def __init__(self, model):
        self.outer = model
        # torch.compile(model) wraps once, PEFT once.
        plain = getattr(model, "_orig_mod", model)
        self.causal = plain.get_base_model() if hasattr(plain, "get_base_model") else plain
        config = getattr(self.causal, "config", None)
        kind = getattr(config, "model_type", type(self.causal).__name__)
        if kind not in FAMILIES:
            raise CaptureError(f"models of the kind '{kind}' are not known", f"known are {', '.join(FAMILIES)}")
        folder, self.family = FAMILIES[kind]
        self.kind, self.config = kind, config
        name = type(self.causal).__module__
        if name != f"transformers.models.{folder}.modeling_{folder}":
            fault = f"this '{kind}' is of {name}, not of transformers"
            raise CaptureError(fault, "load it without trust_remote_code")
        self.module = sys.modules[name]
        self.inner = getattr(self.causal, "model", None)
        self.blocks = list(getattr(self.inner, "layers", []))
        missing = [n for n in ("embed_tokens", "norm", "layers") if not hasattr(self.inner, n)]
        missing += [] if hasattr(self.causal, "lm_head") else ["lm_head"]
        missing += [] if hasattr(self.module, "apply_rotary_pos_emb") else ["apply_rotary_pos_emb"]
        for block in self.blocks[:1]:
            needed = {"self_attn", "mlp"} | {x[1:] for x in (self.family.x_after_attn, self.family.ffn_norm) if x}
            missing += [n for n in sorted(needed) if not hasattr(block, n)]
            products = ["o_proj", self.family.fused or "v_proj"]
            missing += [f"self_attn.{n}" for n in products if not hasattr(block.self_attn, n)]
        if missing:
            fault = f"this '{kind}' lacks {', '.join(missing)}"
            raise CaptureError(fault, "use transformers 5, and no replaced modules")

    def router(self, block):
        """The router of a block; `None` where its MLP is dense."""
        return self.family.router and getattr(block.mlp, self.family.router, None)

    def has(self, layer, point):
        """Whether block `layer`, counted from 1, has `point`."""
        if point.startswith("router"):
            return self.router(self.blocks[layer - 1]) is not None
        return point != "ffn_norm" or self.family.ffn_norm is not None

    @property
    def heads(self):
        """Query heads, KV heads, width of a head."""
        config = self.config
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return config.num_attention_heads, config.num_key_value_heads, width
