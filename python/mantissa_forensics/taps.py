"""Hooks on a transformers model: what passes each site goes to `put(site, rows)`. They read and change nothing.

The keys and queries after rotation are what the family's `apply_rotary_pos_emb` returns, which is wrapped while taps
are on; everything else is a module's input or output. Only the sites wanted get a hook. Left out: which rows are kept,
and where they go (`capture`).
"""

import contextlib

import torch

from . import sites
from .errors import CaptureError

# A site's rows: [sequences, positions, width] of what a hook sees.
PLAIN, HEADS, FLAT = "plain", "heads", "flat"


class Taps:
    """`with Taps(anatomy, wanted, put): model(…)`. `put(site, x, shape)` says how `x` is laid out:

    - `PLAIN`: `[sequences, positions, width]`;
    - `HEADS`: `[sequences, heads, positions, width of a head]`;
    - `FLAT`: `[sequences · positions, width]`.
    """

    def __init__(self, anatomy, wanted, put):
        self.anatomy, self.put = anatomy, put
        self.by_layer = {}
        for site in wanted:
            layer, point = sites.split(site)
            self.by_layer.setdefault(layer, set()).add(point)
        self.layer = None
        self._stack = None

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._stack = stack
            outside = self.by_layer.get(None, set())
            inner = self.anatomy.inner
            if "embed_out" in outside:
                self._after(inner.embed_tokens, "embed_out")
            if "final_norm" in outside:
                self._after(inner.norm, "final_norm")
            for layer, points in self.by_layer.items():
                if layer is not None:
                    self._block(self.anatomy.blocks[layer - 1], layer, points)
            if any({"q", "k"} & points for points in self.by_layer.values()):
                self._rotation()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _block(self, block, layer, points):
        at, family, attention = f"layer_{layer}.", self.anatomy.family, block.self_attn
        self._hook(block.register_forward_pre_hook(self._enter(at, layer, points), with_kwargs=True))
        if "v" in points:
            if family.fused:
                _, heads, width = self.anatomy.heads
                last = -heads * width
                self._after(getattr(attention, family.fused), at + "v", lambda x: x[..., last:])
            else:
                self._after(attention.v_proj, at + "v")
        if "attn_out" in points:
            self._after(attention.o_proj, at + "attn_out")
        for point in ("x_after_attn", "ffn_norm"):
            if point in points:
                place = getattr(family, point)
                on = self._before if place[0] == "<" else self._after
                on(getattr(block, place[1:]), at + point)
        if {"router_logits", "router_topk"} & points:
            self._hook(self.anatomy.router(block).register_forward_hook(self._routed(at, points)))
        if "mlp_out" in points:
            self._after(block.mlp, at + "mlp_out")
        if "x_out" in points:
            self._after(block, at + "x_out")
        self._hook(block.register_forward_hook(self._leave))

    def _hook(self, handle):
        self._stack.callback(handle.remove)

    def _enter(self, at, layer, points):
        def hook(module, inputs, more):
            self.layer = layer
            if "x_in" in points:
                self.put(at + "x_in", inputs[0] if inputs else more["hidden_states"], PLAIN)

        return hook

    def _leave(self, *_):
        self.layer = None

    def _after(self, module, site, part=lambda x: x):
        def hook(_, inputs, output):
            self.put(site, part(output[0] if isinstance(output, tuple) else output), PLAIN)

        self._hook(module.register_forward_hook(hook))

    def _before(self, module, site):
        def hook(_, inputs, more):
            self.put(site, inputs[0] if inputs else more["hidden_states"], PLAIN)

        self._hook(module.register_forward_pre_hook(hook, with_kwargs=True))

    def _routed(self, at, points):
        """Experts are kept as numbers before their weights, in the weights' format."""

        def hook(_, inputs, output):
            logits, weights, experts = output
            if "router_logits" in points:
                self.put(at + "router_logits", logits, FLAT)
            if "router_topk" in points:
                self.put(at + "router_topk", torch.cat([experts.to(weights.dtype), weights], dim=-1), FLAT)

        return hook

    def _rotation(self):
        module = self.anatomy.module
        rotate = module.apply_rotary_pos_emb

        def looked(*arguments, **more):
            turned = rotate(*arguments, **more)
            if self.layer is not None:
                points = self.by_layer.get(self.layer, ())
                for point, x in zip(("q", "k"), turned):
                    if point in points:
                        self.put(f"layer_{self.layer}.{point}", x, HEADS)
            return turned

        module.apply_rotary_pos_emb = looked

        def restore():
            if module.apply_rotary_pos_emb is not looked:
                fault = "apply_rotary_pos_emb was replaced by someone else during the capture"
                raise CaptureError(fault, "end what was begun last first")
            module.apply_rotary_pos_emb = rotate

        self._stack.callback(restore)
