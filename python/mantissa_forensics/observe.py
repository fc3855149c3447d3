"""What ran, found on the running program: never what was asked for.

`machine` and `versions` look at the process and its devices; `Watch` looks at a model while it computes (attention and
experts functions that were called, streams, backends of `sdpa`, compilation); `model_facts` looks at its modules.
`check` compares what was asked for with what was found, and raises where a knob took no effect.
"""

import ctypes
import os
import platform
import re
import sys

import torch

from .errors import KnobError

DTYPES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
# What counts as the same answer, by axis.
WORDS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", **{str(t): name for t, name in DTYPES.items()}}
AXES = (
    "dtype",
    "attention",
    "compile",
    "quantization",
    "batch_size",
    "concurrent_streams",
    "tp_size",
    "ep_size",
    "device",
    "cache",
    "padding",
)


def check(asked, found):
    """Compares `asked` (some of `AXES`) with `found` (all of them). *Errors:* `KnobError` at the first that differs."""
    for axis in asked:
        if axis not in AXES:
            raise KnobError(axis, asked[axis], "nothing", f"there is no such axis; there are {', '.join(AXES)}")
    for axis in AXES:
        if axis in asked and asked[axis] is not None:
            want, ran = WORDS.get(str(asked[axis]), asked[axis]), found[axis]
            # A device without a number means any of its kind, padding without one any of that side.
            whole = str(ran) if axis not in ("device", "padding") or ":" in str(want) else str(ran).split(":")[0]
            same = str(want) == whole
            if not same:
                raise KnobError(axis, asked[axis], ran)


# ---- the machine -----------------------------------------------------------------------------------------------------


def machine():
    """`environment` of the experiment JSON."""
    text = _read("/proc/cpuinfo")
    field = lambda name: next((m.group(1) for m in re.finditer(rf"^{name}\s*:\s*(.*)$", text, re.M)), "")
    known = ["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"]
    flags = field("flags").split()
    memory = re.search(r"MemTotal:\s*(\d+) kB", _read("/proc/meminfo"))
    return {
        "cpu": field("model name") or platform.machine(),
        "cpu_features": [name for name in known if name in flags]
        + [f"torch:{torch.backends.cpu.get_cpu_capability()}", f"threads:{torch.get_num_threads()}"],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "os": f"{sys.platform} {platform.release()}",
        "memory_bytes": int(memory.group(1)) * 1024 if memory else 0,
        "rustc": "none",
    }


def versions(*also):
    """Versions of what decides kernels, as loaded: always those of PyTorch, its libraries and transformers, and `also`.

    What else happens to be imported is left out: it would make the same run's evidence depend on its process.
    """
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("transformers", *also):
        # What is not imported did not run.
        module = sys.modules.get(name)
        if module is not None and getattr(module, "__version__", None):
            found[name] = str(module.__version__)
    if not torch.cuda.is_available():
        return found
    found["cuda"] = torch.version.cuda
    found["cudnn"] = str(torch.backends.cudnn.version())
    if torch.distributed.is_available():
        try:
            found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
        except (AttributeError, RuntimeError):
            pass
    if cublas := _cublas():
        found["cublas"] = cublas
    if driver := re.search(r"Module\s+([\d.]+)", _read("/proc/driver/nvidia/version")):
        found["driver"] = driver.group(1)
    return found


def _cublas():
    """`13.1.0`, asked of the library in this process."""
    path = re.search(r"\S*/libcublasLt\.so\S*", _read("/proc/self/maps"))
    if not path:
        return None
    get = ctypes.CDLL(path.group(0)).cublasLtGetVersion
    get.restype = ctypes.c_size_t
    number = get()
    # 120405 and 130100: major · 10000 + minor · 100 + patch.
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def devices(used):
    """Of each CUDA device used: name, capability, multiprocessors, L2, and its counts of active clusters."""
    found = []
    for device in used:
        if device.type != "cuda":
            found.append({"device": str(device), "name": machine()["cpu"], "clusters": None})
            continue
        known = torch.cuda.get_device_properties(device)
        found.append(
            {
                "device": str(device),
                "name": known.name,
                "compute_capability": f"{known.major}.{known.minor}",
                "multiprocessors": known.multi_processor_count,
                "l2_bytes": int(known.L2_cache_size),
                "memory_bytes": int(known.total_memory),
                "clusters": clusters(device),
            }
        )
    return found


# A kernel that does nothing, for the occupancy of clusters.
_PTX = b""".version 7.8
.target sm_90
.address_size 64
.visible .entry mantissa_nothing() { ret; }
\0"""


class _Attribute(ctypes.Structure):
    """`CUlaunchAttribute` with a cluster's dimension."""

    _fields_ = [("id", ctypes.c_int), ("pad", ctypes.c_char * 4), ("value", ctypes.c_uint * 16)]


class _Config(ctypes.Structure):
    """`CUlaunchConfig`."""

    _fields_ = [
        *((name, ctypes.c_uint) for name in ("gx", "gy", "gz", "bx", "by", "bz", "shared")),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("count", ctypes.c_uint),
    ]


def clusters(device):
    """Active clusters of sizes 1 to 16, one block to a multiprocessor, which cuBLASLt's heuristic reads; else `None`.

    Source: `cuOccupancyMaxActiveClusters` of the CUDA driver. `None` where there are no clusters (before Hopper) or the
    driver does not answer.
    """
    if torch.cuda.get_device_capability(device)[0] < 9:
        return None
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        with torch.cuda.device(device):
            torch.cuda.current_stream().synchronize()
            module, function = ctypes.c_void_p(), ctypes.c_void_p()
            if cuda.cuModuleLoadData(ctypes.byref(module), _PTX):
                return None
            try:
                if cuda.cuModuleGetFunction(ctypes.byref(function), module, b"mantissa_nothing"):
                    return None
                shared = torch.cuda.get_device_properties(device).shared_memory_per_block_optin
                # MAX_DYNAMIC_SHARED_SIZE_BYTES, NON_PORTABLE_CLUSTER_SIZE_ALLOWED.
                if cuda.cuFuncSetAttribute(function, 8, shared) or cuda.cuFuncSetAttribute(function, 14, 1):
                    return None
                return [_active(cuda, function, size, shared) for size in range(1, 17)]
            finally:
                cuda.cuModuleUnload(module)
    except (AttributeError, OSError):
        return None


def _active(cuda, function, size, shared):
    attribute = _Attribute(id=4)  # CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
    attribute.value[0:3] = [size, 1, 1]
    config = _Config(size, 1, 1, 32, 1, 1, shared, None, ctypes.pointer(attribute), 1)
    count = ctypes.c_int()
    failed = cuda.cuOccupancyMaxActiveClusters(ctypes.byref(count), function, ctypes.byref(config))
    return -1 if failed else count.value


def _read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


# ---- the model -------------------------------------------------------------------------------------------------------


def quantization_of(module):
    """How a linear layer's weight is stored; `None` where the module is none. An unknown one is named by its class."""
    base = getattr(module, "base_layer", module)
    kind, home = type(base).__name__, type(base).__module__
    if home.startswith("bitsandbytes"):
        if kind == "Linear4bit":
            state = getattr(base.weight, "quant_state", None)
            return f"bnb-{getattr(state, 'quant_type', None) or getattr(base.weight, 'quant_type', '4bit')}"
        return "bnb-int8" if kind == "Linear8bitLt" else None
    lower = kind.lower()
    if "gptq" in home.lower() or "gptq" in lower:
        return "gptq" if "linear" in lower else None
    if "awq" in home.lower() or "awq" in lower:
        return "awq" if "linear" in lower or lower.startswith("wq") else None
    if lower.startswith("fp8") and "linear" in lower:
        return "fp8"
    if isinstance(base, torch.nn.Linear) or lower.endswith("linear"):
        weight = getattr(base, "weight", None)
        if isinstance(base, torch.nn.Linear) and type(getattr(weight, "data", weight)) in (
            torch.Tensor,
            torch.nn.Parameter,
        ):
            if weight.dtype in DTYPES or weight.dtype == torch.float64:
                return "none"
            return "fp8" if "float8" in str(weight.dtype) else str(weight.dtype).removeprefix("torch.")
        tensor = type(weight).__name__
        if tensor == "DTensor":
            return "none"
        return f"{home.split('.')[0]}.{kind}:{tensor}"
    return None


def model_facts(causal):
    """Quantization by layer and in one word, formats of parameters, ranks, devices, whether anything is compiled."""
    by_name, words = {}, set()
    for name, module in causal.named_modules():
        if ".base_layer" in name or ".lora_" in name:
            continue
        how = quantization_of(module)
        if how:
            by_name.setdefault(re.sub(r"\.\d+\.", ".*.", name), {})[name] = how
            # The head stays as it is in most quantized models.
            if not name.endswith("lm_head"):
                words.add(how)
    layers = {}
    for pattern, names in by_name.items():
        kinds = set(names.values())
        layers |= {pattern: kinds.pop()} if len(kinds) == 1 else names
    words.discard("none") if len(words) > 1 else None
    parameters = list(causal.parameters())
    ranks = max([_ranks(p) for p in parameters] + [int(getattr(causal, "_tp_size", None) or 1)])
    distributed = getattr(causal.config, "distributed_config", None)
    experts = ranks > 1 and bool(getattr(distributed, "enable_expert_parallel", False))
    formats = {}
    for parameter in parameters:
        formats[str(parameter.dtype).removeprefix("torch.")] = (
            formats.get(str(parameter.dtype).removeprefix("torch."), 0) + 1
        )
    return {
        "quantization": "+".join(sorted(words)) or "none",
        "layers": dict(sorted(layers.items())),
        "parameters": formats,
        "devices": sorted({p.device for p in parameters}, key=str),
        # With experts over ranks, transformers leaves everything else whole on each.
        "tp_size": 1 if experts else ranks,
        "ep_size": ranks if experts else 1,
    }


def _ranks(parameter):
    mesh = getattr(parameter, "device_mesh", None)
    return mesh.size() if mesh is not None else 1


def compiled_parts(model):
    """Names of modules that `torch.compile` was asked to compile."""
    found = [""] if hasattr(model, "_orig_mod") else []
    for name, module in model.named_modules():
        if getattr(module, "_compiled_call_impl", None) is not None or type(module).__name__ == "OptimizedModule":
            found.append(name)
    return found


def graphs():
    """Graphs that were compiled in this process: 0 where `torch.compile` had no effect."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None or dynamo.config.disable or "torch._dynamo.utils" not in sys.modules:
        return 0
    return sys.modules["torch._dynamo.utils"].counters["stats"]["unique_graphs"]


class Watch:
    """Looks at what transformers calls while it is on: attention and experts functions, by name."""

    def __init__(self, module):
        self.module = module
        self.attention, self.experts, self.backends = set(), set(), set()
        self.streams, self.caches, self.batch_sizes, self.autocast = set(), set(), set(), set()
        self.work_dtypes, self.other_work = set(), False
        self._undo = []

    def __enter__(self):
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        self._wrap(ALL_ATTENTION_FUNCTIONS, self.attention)
        try:
            from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
        except ImportError:
            return self
        self._wrap(ALL_EXPERTS_FUNCTIONS, self.experts)
        return self

    def __exit__(self, *_):
        while self._undo:
            self._undo.pop()()

    def _wrap(self, table, into):
        """Notes the function that a table gives. The table is one object of the process: other models note nothing."""
        get, before = table.get_interface, table.__dict__.get("get_interface")

        def noted(name, default):
            function = get(name, default)
            if self.inside:
                into.add(_known(name, function, default))
            return function

        def undo():
            del table.get_interface
            if before is not None:
                table.get_interface = before

        table.get_interface = noted
        self._undo.append(undo)

    inside = False

    def begin(self, batch, device):
        """A pass of `batch` sequences begins."""
        self.inside = True
        self.batch_sizes.add(batch)
        flags = torch.backends.cuda
        on = (
            flags.flash_sdp_enabled(),
            flags.mem_efficient_sdp_enabled(),
            flags.math_sdp_enabled(),
            flags.cudnn_sdp_enabled(),
        )
        self.backends.add(on)
        if torch.is_autocast_enabled(device.type):
            self.autocast.add(str(torch.get_autocast_dtype(device.type)))
        if device.type == "cuda":
            self.streams.add(torch.cuda.current_stream(device).cuda_stream)

    def end(self):
        self.inside = False

    def attention_word(self, cuda):
        """`eager`, `sdpa`, `sdpa_flash`, …; several joined by `+`."""
        words = set()
        for name in self.attention or {"unknown"}:
            only = {(True, False, False, False): "sdpa_flash", (False, True, False, False): "sdpa_efficient"}
            only |= {(False, False, True, False): "sdpa_math", (False, False, False, True): "sdpa_cudnn"}
            backends = {only.get(on, "sdpa") for on in self.backends} if cuda and name == "sdpa" else {name}
            words |= backends
        return "+".join(sorted(words))

    def cache_word(self):
        """`dynamic`, `static`, `none`; another class by its name."""
        known = {"DynamicCache": "dynamic", "StaticCache": "static", "none": "none"}
        return "+".join(sorted(known.get(name, name) for name in self.caches)) or "none"


def _known(name, function, default):
    """The word for a function that a table gave: by what it is, not by the name it was asked for."""
    if function is default:
        return "eager"
    words = {
        "sdpa_attention_forward": "sdpa",
        "flash_attention_forward": name if str(name).startswith("flash_attention") else "flash_attention",
        "flex_attention_forward": "flex_attention",
        "grouped_mm_experts_forward": "grouped_mm",
        "batched_mm_experts_forward": "batched_mm",
    }
    plain = getattr(function, "__name__", type(function).__name__)
    return words.get(plain, plain)


def kernels(run):
    """Kernels of one call of `run` by name, in the order of their first launch; on a CPU its operators."""
    from torch.profiler import ProfilerActivity, profile

    cuda = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])) as seen:
        run()
        if cuda:
            torch.cuda.synchronize()
    counts, streams = {}, set()
    for event in sorted(seen.events(), key=lambda e: e.time_range.start):
        on_device = str(getattr(event, "device_type", "")).endswith("CUDA")
        if on_device == cuda and (cuda or event.name.startswith("aten::")) and not event.name.startswith("Mem"):
            counts[event.name] = counts.get(event.name, 0) + 1
            streams.add(getattr(event, "device_resource_id", 0))
    return [{"name": name, "launches": count} for name, count in counts.items()], len(streams)
