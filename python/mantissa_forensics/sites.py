"""Where a tensor is seen: the names and the order of `crates/numerics/src/site.rs`.

A site is a string as files have it: `layer_4.x_out`, or `final_norm` where there is no layer. Layers count from 1, as
Hugging Face's `hidden_states`.
"""

from .errors import CaptureError

# In the order of data flow.
POINTS = (
    "embed_out",
    "x_in",
    "q",
    "k",
    "v",
    "attn_out",
    "x_after_attn",
    "ffn_norm",
    "router_logits",
    "router_topk",
    "mlp_out",
    "x_out",
    "final_norm",
    "logits",
)
OUTSIDE = ("embed_out", "final_norm", "logits")
# Of the blocks' outputs and keys, as `mantissa record` keeps them.
DEFAULT_LAYERS = (1, 2, 4, 12, "last")
DEFAULT_POINTS = ("x_out", "k", "final_norm")


def order(site):
    """Sorts sites by the flow of data."""
    layer, point = split(site)
    place = {"embed_out": 0}.get(point, 1 << 32) if layer is None else layer
    return place, POINTS.index(point)


def split(site):
    """`layer_4.x_out` as `(4, "x_out")`, `logits` as `(None, "logits")`."""
    if site in OUTSIDE:
        return None, site
    layer, _, point = site.partition(".")
    number = layer.removeprefix("layer_")
    if not layer.startswith("layer_") or not number.isdigit() or point not in POINTS or point in OUTSIDE:
        raise CaptureError(f"'{site}' is not a site", f"write layer_K.POINT, or one of {', '.join(OUTSIDE)}")
    return int(number), point


def chosen(layers, points, count, has):
    """The sites of `points` in `layers` of a model of `count` blocks, in the flow of data.

    `layers`: numbers from 1 and `"last"`, `"all"`, or `None` for those of 1, 2, 4, 12, last that the model has.
    `points`: points, whole sites, `"all"`, or `None` for `x_out`, `k` and `final_norm`; `has(layer, point)` says
    whether a block has one. A point that no chosen block has is an error, not nothing.
    """
    if layers is None:
        numbers = {count if n == "last" else n for n in DEFAULT_LAYERS if n == "last" or n <= count}
    elif layers == "all":
        numbers = set(range(1, count + 1))
    else:
        numbers = {count if n == "last" else int(n) for n in layers}
    for number in numbers:
        if not 1 <= number <= count:
            raise CaptureError(f"there is no layer {number}", f"the model has layers 1 to {count}")
    every = points == "all"
    found = set()
    for point in POINTS if every else DEFAULT_POINTS if points is None else points:
        if "." in point:
            layer, inner = split(point)
            if not 1 <= layer <= count or not has(layer, inner):
                raise CaptureError(f"this model has no site {point}", f"it has layers 1 to {count}")
            found.add(point)
            continue
        if point not in POINTS:
            raise CaptureError(f"unknown point '{point}'", f"use some of {', '.join(POINTS)}")
        if point in OUTSIDE:
            found.add(point)
            continue
        there = {f"layer_{n}.{point}" for n in numbers if has(n, point)}
        if not there and not every:
            raise CaptureError(f"no block chosen has the point '{point}'", "leave it out, or choose other layers")
        found |= there
    return sorted(found, key=order)
