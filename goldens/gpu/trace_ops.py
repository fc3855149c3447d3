"""Every operation of a stock Hugging Face forward pass with its inputs and outputs, for one small seeded model.

    python trace_ops.py DIRECTORY

A Llama of SmolLM2's widths (one layer, bf16, eager attention, 1,024 words) on the GPU: a prefill of 40 tokens and two
decode steps at batch 1 and 2. DIRECTORY/ops_<name>.npz holds raw bits, op by op, and ops_<name>.txt the list with the
kernels that ran.
"""

import os
import sys

import numpy
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float16: torch.int16}


def raw(tensor: torch.Tensor) -> numpy.ndarray:
    tensor = tensor.detach().contiguous()
    return tensor.view(BITS.get(tensor.dtype, tensor.dtype)).cpu().numpy()


class Trace(TorchDispatchMode):
    def __init__(self, weights: set[int]):
        super().__init__()
        self.arrays, self.lines, self.weights, self.known = {}, [], weights, {}

    def name(self, value):
        if not isinstance(value, torch.Tensor):
            return repr(value)
        if value.data_ptr() in self.weights:
            return f"W{tuple(value.shape)}"
        key = (value.data_ptr(), tuple(value.shape), value.dtype)
        return f"{self.known.get(key, '?')}{tuple(value.shape)}{str(value.dtype)[6:]}"

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        said = ", ".join(self.name(a) for a in args)
        result = function(*args, **(kwargs or {}))
        number = len(self.lines)
        outputs = result if isinstance(result, (tuple, list)) else [result]
        for i, output in enumerate(outputs):
            if isinstance(output, torch.Tensor):
                label = f"o{number}_{i}"
                self.known[(output.data_ptr(), tuple(output.shape), output.dtype)] = label
                view = str(function).split(".")[1] in ("view", "_unsafe_view", "t", "transpose", "expand", "slice", "unsqueeze", "alias", "detach", "select")
                if not view and output.numel() < 300_000:
                    self.arrays[label] = raw(output)
        self.lines.append(f"o{number} {function}({said}, {kwargs}) -> {[tuple(o.shape) for o in outputs if isinstance(o, torch.Tensor)]}")
        return result


def main() -> None:
    directory = sys.argv[1]
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=1024, hidden_size=576, intermediate_size=1536, num_hidden_layers=1, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True, rms_norm_eps=1e-5, rope_theta=100000.0,
    )
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config).to(torch.bfloat16).cuda().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 1.0 if "norm" in name else 0.05
            parameter.copy_((torch.randn(parameter.shape) * scale + (1.0 if "norm" in name else 0.0)).to(torch.bfloat16))
    weights = {name: raw(parameter) for name, parameter in model.named_parameters()}
    numpy.savez_compressed(os.path.join(directory, "ops_weights.npz"), **weights)
    pointers = {parameter.data_ptr() for parameter in model.parameters()}
    for batch in (1, 2):
        ids = torch.randint(0, 1024, (batch, 40), generator=torch.Generator().manual_seed(batch)).cuda()
        arrays, lines = {"ids": ids.cpu().numpy()}, []

        def forward(tokens, cache, phase):
            nonlocal lines
            for traced in (False, True):
                import copy
                own = copy.deepcopy(cache)
                mode = Trace(pointers)
                with torch.no_grad(), profile(activities=[ProfilerActivity.CUDA]) as seen:
                    if traced:
                        with mode:
                            out = model(tokens, past_key_values=own, use_cache=True)
                    else:
                        out = model(tokens, past_key_values=own, use_cache=True)
                    torch.cuda.synchronize()
                if not traced:
                    lines += [f"== {phase}: kernels"] + [
                        e.name[:200] for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA
                    ]
                    plain = out.logits
            assert torch.equal(plain, out.logits)
            lines.append(f"== {phase}: operations")
            lines += mode.lines
            arrays.update({f"{phase}_{k}": v for k, v in mode.arrays.items()})
            return out

        out = forward(ids, None, "prefill")
        for step in range(2):
            tokens = out.logits[:, -1:].argmax(-1)
            arrays[f"step{step}"] = tokens.cpu().numpy()
            out = forward(tokens, out.past_key_values, f"decode{step}")
        numpy.savez_compressed(os.path.join(directory, f"ops_batch{batch}.npz"), **arrays)
        open(os.path.join(directory, f"ops_batch{batch}.txt"), "w").write("\n".join(lines))
    print("torch", torch.__version__, torch.version.cuda, torch.backends.cudnn.version(), torch.cuda.get_device_name())


main()
