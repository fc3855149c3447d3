"""Which roundings of the eager graph the kernels of Inductor leave out.

`watched()` notes, while something is compiled, which nodes of the graph each fused kernel computes. `kernels()` makes a
table of them. In eager mode each node rounds what it leaves to its format. A fused kernel
computes in binary32 and hands values on in registers, so a node in bf16 whose reader is in the same kernel is not
rounded there (unless `emulate_precision_casts` puts the cast back).
"""

import contextlib
import re

# Operations that leave numbers which their inputs do not hold; all others move or select values.
ROUND = ("add", "sub", "rsub", "mul", "div", "reciprocal", "silu", "sigmoid", "exp", "rsqrt", "sqrt", "pow")
ROUND += ("mean", "sum", "var", "cos", "sin", "tanh", "gelu", "_softmax")
EXTERN = ("mm", "bmm", "addmm", "baddbmm", "convolution")


class Seen:
    """Of each kernel as it is launched: name, source, nodes."""

    def __init__(self, kernels=()):
        self.kernels = list(kernels)


@contextlib.contextmanager
def watched():
    """Notes what Inductor makes. Caches are off meanwhile: a cached graph is not lowered."""
    import torch
    import torch._functorch.config as functorch
    import torch._inductor.config as config
    from torch._inductor.codegen.cpp import CppScheduling
    from torch._inductor.codegen.triton import TritonScheduling

    seen, undo = Seen(), []

    def patch(kind):
        define = kind.define_kernel

        def noted(self, source, nodes, *arguments, **more):
            name = define(self, source, nodes, *arguments, **more)
            origins = set()
            for node in nodes:
                origins |= set(getattr(getattr(node, "node", None), "origins", ()) or ())
            seen.kernels.append((name, source, [n for n in origins if n.op == "call_function"]))
            return name

        kind.define_kernel = noted
        undo.append(lambda: setattr(kind, "define_kernel", define))

    patch(TritonScheduling)
    patch(CppScheduling)
    try:
        with config.patch({"fx_graph_cache": False}), functorch.patch({"enable_autograd_cache": False}):
            torch._dynamo.reset()
            yield seen
    finally:
        while undo:
            undo.pop()()


def dtype(node):
    value = node.meta.get("val")
    return str(getattr(value, "dtype", "")).removeprefix("torch.")


def module(node):
    """The module that a node is of: `layers.1.mlp`; the last line of the source that it came from."""
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    found = re.search(r"layers\W+(\d+)\W*(.*)$", path)
    path = f"layers.{found[1]}" + (f".{found[2]}" if found[2] else "") if found else path.split(".")[-1]
    lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
    lines = [line for line in lines if line and set(line) - set("~^ ")]
    return path, lines[-1] if lines else ""


def name_of(node):
    return getattr(node.target, "_opname", None) or getattr(node.target, "__name__", str(node.target)).split(".")[0]


def rounds(node):
    """Whether eager mode rounds what the node leaves to a format narrower than binary32."""
    if dtype(node) not in ("bfloat16", "float16"):
        return False
    name = name_of(node)
    if name in ("convert_element_type", "_to_copy"):
        return any(dtype(one) == "float32" for one in node.all_input_nodes)
    return name in ROUND


def readers(node, inside):
    """Nodes of `inside` that compute with what `node` leaves, through nodes that only move it."""
    found, waiting, known = [], list(node.users), set()
    while waiting:
        user = waiting.pop()
        if user in known or user.op != "call_function":
            continue
        known.add(user)
        name = name_of(user)
        if name in EXTERN:
            continue
        computes = name in ROUND or name in ("convert_element_type", "_to_copy", "amax", "neg")
        if computes and user in inside:
            found.append(user)
        elif not computes:
            waiting += list(user.users)
    return found


def kernels(seen, layer):
    """Rows of the kernels that compute a node of block `layer` (from 0): what is fused, and which roundings are not
    there."""
    rows = []
    for name, source, origins in seen.kernels:
        inside = {node for node in origins if name_of(node) not in EXTERN}
        own = [node for node in inside if module(node)[0].split(".")[:2] == ["layers", str(layer)]]
        if not own:
            continue
        order = {node: place for place, node in enumerate(next(iter(inside)).graph.nodes)}
        inside_in_order = sorted(inside, key=lambda node: order.get(node, 0))
        dropped, kept = [], []
        for node in inside_in_order:
            if not rounds(node):
                continue
            path, line = module(node)
            entry = {"node": node.name, "operation": name_of(node), "module": path, "source": line}
            entry["read_by"] = [one.name for one in readers(node, inside)]
            (dropped if entry["read_by"] else kept).append(entry)
        casts = len(re.findall(r"\.to\(tl\.bfloat16\)|convert<at::BFloat16|downcast", source))
        rows.append(
            {
                "kernel": name,
                "nodes": [node.name for node in inside_in_order],
                "aten": sorted({name_of(node) for node in inside}),
                "modules": sorted({module(node)[0] for node in own}),
                "not_rounded_inside": dropped,
                "rounded_at_the_end": kept,
                "casts_in_code": casts,
            }
        )
    return rows


def markdown(rows):
    """One line a rounding."""
    lines = ["| kernel | module | source line | eager node | read inside by |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        for entry in row["not_rounded_inside"]:
            cells = [row["kernel"], entry["module"], f"`{entry['source']}`", entry["node"], ", ".join(entry["read_by"])]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
