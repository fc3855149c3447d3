"""The container of docs/format/container.md: a safetensors file for each run, then the clocks, then the manifest.

Data: `Run` holds the ids of one repetition and a `Phase` of signals for its prefill and its decode steps; a phase holds
arrays of bits `[steps, positions, dim]`. `write` computes every digest and writes whole files, in an order that leaves
an unfinished record recognizable. `read` is for repetitions that an earlier attempt left.

Bits are numpy arrays of unsigned words (`uint16` for bf16 and f16, `uint32` for f32), so that no value is ever a number
here.
"""

import dataclasses
import json
import os
import re
import tempfile

import numpy as np

from . import blake3, sites
from .errors import CaptureError

FORMAT_VERSION = 1
MANIFEST, TIMING = "manifest.json", "timing.json"
PHASES = ("prefill", "decode")
# Mantissa's name of a format, the name in a safetensors header, and its word.
FORMATS = {"f32": ("F32", np.dtype("<u4")), "bf16": ("BF16", np.dtype("<u2")), "f16": ("F16", np.dtype("<u2"))}


@dataclasses.dataclass
class Tensor:
    """Bits of one site. *Shape:* `[steps, positions, dim]`."""

    dtype: str
    bits: np.ndarray


@dataclasses.dataclass
class Logprobs:
    """Candidates by token id. *Shape:* of ids (u32) and values (bits of f32) `[steps, positions, k]`."""

    token_ids: np.ndarray
    log_probs: np.ndarray
    vocab_size: int | None


@dataclasses.dataclass
class Phase:
    """Signals of one phase: positions count from the end of the sequence at each step."""

    steps: int
    positions: list
    tensors: dict
    logprobs: Logprobs | None = None
    first_step: int = 0

    def items(self, phase):
        """Name, format, safetensors format and array of every tensor, in the flow of data."""
        for site in sorted(self.tensors, key=sites.order):
            tensor = self.tensors[site]
            yield f"{phase}/{site}", tensor.dtype, FORMATS[tensor.dtype][0], tensor.bits
        if self.logprobs:
            yield f"{phase}/logprobs.token_ids", "u32", "U32", self.logprobs.token_ids
            yield f"{phase}/logprobs.log_probs", "f32", "F32", self.logprobs.log_probs

    def layout(self):
        logprobs = self.logprobs
        out = {"first_step": self.first_step} if self.first_step else {}
        return out | {
            "steps": self.steps,
            "positions": list(self.positions),
            "tensors": {
                site: {"dtype": self.tensors[site].dtype, "dim": self.tensors[site].bits.shape[2]}
                for site in sorted(self.tensors, key=sites.order)
            },
            "logprobs": logprobs and {"k": logprobs.token_ids.shape[2], "vocab_size": logprobs.vocab_size},
        }


@dataclasses.dataclass
class Neighbour:
    """A sequence that shared the batch."""

    prompt: list
    output: list
    source: dict | None = None

    def json(self):
        return {"prompt_token_ids": self.prompt, "output_token_ids": self.output, "source": self.source}


@dataclasses.dataclass
class Run:
    """One repetition: exact ids, and signals."""

    config_id: str
    reference: int
    rep: int
    prompt: list
    output: list
    phases: dict
    neighbours: list = dataclasses.field(default_factory=list)
    prompt_text: str = ""
    output_texts: list = dataclasses.field(default_factory=list)
    source: dict | None = None
    timestamp: str | None = None
    seconds: float | None = None

    @property
    def file_name(self):
        plain = re.compile(rb"[A-Za-z0-9._-]")
        name = "".join(chr(b) if plain.match(bytes([b])) else f"%{b:02x}" for b in self.config_id.encode())
        return f"run-{name}-ref{self.reference}-rep{self.rep}.safetensors"

    def items(self):
        for phase in PHASES:
            if self.phases.get(phase):
                yield from self.phases[phase].items(phase)

    def signals_digest(self):
        """Each tensor's name and format, both after their length, three dimensions, data (experiment-json.md)."""
        found = blake3.hasher()
        for name, dtype, _, array in self.items():
            for text in (name, dtype):
                found.update(len(text).to_bytes(8, "little") + text.encode())
            found.update(b"".join(int(n).to_bytes(8, "little") for n in array.shape))
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def digests(self):
        """An entry of `reproducibility.digests`."""
        return {
            "reference_id": self.reference,
            "rep_id": self.rep,
            "output_ids": blake3.of_ids(self.output),
            "signals": self.signals_digest(),
        }

    def extras(self):
        layout = {phase: self.phases[phase].layout() if self.phases.get(phase) else None for phase in PHASES}
        return {
            "reference_id": self.reference,
            "prompt_token_ids": self.prompt,
            "prompt_ids_digest": blake3.of_ids(self.prompt),
            "output_token_ids": self.output,
            "output_ids_digest": blake3.of_ids(self.output),
            "output_token_texts": self.output_texts,
            "neighbours": [neighbour.json() for neighbour in self.neighbours],
            "prompt_source": self.source,
            "signals": layout,
            "signals_digest": self.signals_digest(),
        }


def write(directory, metadata, configurations, runs):
    """Writes `runs` and what is stated about them. A folder with a manifest is finished and is an error.

    `metadata` and `configurations` are those of the experiment JSON; their clocks (`date_created`, `runtime`) go to
    `timing.json`.
    """
    manifest_path = os.path.join(directory, MANIFEST)
    if os.path.lexists(manifest_path):
        raise CaptureError(f"{manifest_path} exists", "give another folder; a finished record is never written over")
    os.makedirs(directory, exist_ok=True)
    metadata, configurations = dict(metadata), [dict(configuration) for configuration in configurations]
    timing = {}
    if date := metadata.pop("date_created", None):
        timing["date_created"] = date
    timing["configurations"] = {}
    for configuration in configurations:
        configuration["mantissa"] = extras = dict(configuration["mantissa"])
        if runtime := extras.pop("runtime", None):
            timing["configurations"][configuration["config_id"]] = runtime
    clocks = {run.file_name: {"timestamp": run.timestamp, "runtime_seconds": run.seconds} for run in runs}
    timing["runs"] = {name: {k: v for k, v in clock.items() if v is not None} for name, clock in clocks.items()}
    timing["runs"] = {name: clock for name, clock in timing["runs"].items() if clock}
    entries = []
    for run in runs:
        size, found = whole(os.path.join(directory, run.file_name), _safetensors(run))
        entries.append(
            {
                "config_id": run.config_id,
                "rep_id": run.rep,
                "prompt_text": run.prompt_text,
                "file": {"name": run.file_name, "bytes": size, "blake3": found},
                "mantissa": run.extras(),
            }
        )
    whole(os.path.join(directory, TIMING), [_json(timing)])
    manifest = {
        "format": "mantissa-container",
        "format_version": FORMAT_VERSION,
        "experiment_metadata": metadata,
        "configurations": configurations,
        "runs": entries,
    }
    whole(manifest_path, [_json(manifest)])


def read(directory):
    """Metadata, configurations (with clocks in their place again) and runs of a finished container."""
    from safetensors import safe_open

    def load(name):
        with open(os.path.join(directory, name)) as file:
            return json.load(file)

    manifest = load(MANIFEST)
    timing = load(TIMING) if os.path.exists(os.path.join(directory, TIMING)) else {}
    runs = []
    for entry in manifest["runs"]:
        extras, path = entry["mantissa"], os.path.join(directory, entry["file"]["name"])
        if blake3.of_file(path) != entry["file"]["blake3"]:
            raise CaptureError(f"{path} is not the file that the manifest names", "remove the folder and record again")
        # The package checks the header; bits are read beside it.
        with safe_open(path, framework="numpy"):
            bits = _bits(path)
        phases = {}
        for phase, layout in extras["signals"].items():
            if layout:
                logprobs = layout.get("logprobs") and Logprobs(
                    bits[f"{phase}/logprobs.token_ids"],
                    bits[f"{phase}/logprobs.log_probs"],
                    layout["logprobs"]["vocab_size"],
                )
                tensors = {s: Tensor(t["dtype"], bits[f"{phase}/{s}"]) for s, t in layout["tensors"].items()}
                first = layout.get("first_step", 0)
                phases[phase] = Phase(layout["steps"], layout["positions"], tensors, logprobs, first)
        clock = timing.get("runs", {}).get(entry["file"]["name"], {})
        neighbours = [
            Neighbour(n["prompt_token_ids"], n["output_token_ids"], n.get("source")) for n in extras["neighbours"]
        ]
        runs.append(
            Run(
                config_id=entry["config_id"],
                reference=extras["reference_id"],
                rep=entry["rep_id"],
                prompt=extras["prompt_token_ids"],
                output=extras["output_token_ids"],
                phases=phases,
                neighbours=neighbours,
                prompt_text=entry["prompt_text"],
                output_texts=extras["output_token_texts"],
                source=extras.get("prompt_source"),
                timestamp=clock.get("timestamp"),
                seconds=clock.get("runtime_seconds"),
            )
        )
    for configuration in manifest["configurations"]:
        if runtime := timing.get("configurations", {}).get(configuration["config_id"]):
            configuration["mantissa"]["runtime"] = runtime
    metadata = manifest["experiment_metadata"]
    if "date_created" in timing:
        metadata["date_created"] = timing["date_created"]
    return metadata, manifest["configurations"], runs


def is_complete(directory):
    """Whether `directory` holds a finished container."""
    return os.path.isfile(os.path.join(directory, MANIFEST))


def whole(path, pieces):
    """Writes a file that appears whole or not at all; returns its size and digest."""
    folder = os.path.dirname(path) or "."
    handle, temporary = tempfile.mkstemp(prefix=".mantissa-", dir=folder)
    size, found = 0, blake3.hasher()
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                file.write(piece)
                found.update(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return size, found.hexdigest()


def _json(value):
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def _safetensors(run):
    """A safetensors file in pieces: names by format, widest first, as the package orders them."""
    wide = {"U32": 0, "F32": 1, "F16": 3, "BF16": 2}
    items = sorted(run.items(), key=lambda item: (wide[item[2]], item[0]))
    header, at = {}, 0
    for name, _, stored, array in items:
        header[name] = {"dtype": stored, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for _, _, _, array in items:
        yield np.ascontiguousarray(array).tobytes()


def _bits(path):
    """Every tensor of a safetensors file as words, which numpy's own reader cannot give for bf16."""
    words = {"F32": "<u4", "U32": "<u4", "BF16": "<u2", "F16": "<u2"}
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    data = np.memmap(path, np.uint8, "r", offset=8 + length) if os.path.getsize(path) > 8 + length else b""
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            found[name] = np.frombuffer(bytes(data[start:end]), words[entry["dtype"]]).reshape(entry["shape"])
    return found
