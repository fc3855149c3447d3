#!/usr/bin/env python3
"""Make generation.json: what transformers' logits processors make of rows of logits, and greedy tokens of a model.

    generation.py --mantissa MANTISSA --scratch FOLDER --out goldens/generation.json

`rows`: random settings on random rows of 24 logits, through the list that `generate` itself makes
(`_get_logits_processor`); bits in and out. The penalties of frequency and presence, which transformers lacks, are those
of vLLM (`vllm/model_executor/layers/utils.py`, `apply_penalties`), written out here behind the one of repetition.

`tokens`: `generate` on the tiny model of `mantissa synth --arch qwen3 --seed 1`, greedily, in float32, with settings
one by one and together.

Needs torch and transformers 5.17; no network.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import pathlib
import random
import subprocess

import numpy
import torch
import transformers

WIDTH = 24


def bits(values):
    return [f"{value:08x}" for value in values.numpy().astype(numpy.float32).view(numpy.uint32).tolist()]


def drawn(pick):
    """Settings of `Generation`, each there with a chance."""
    ids = lambda most: [pick.randrange(WIDTH) for _ in range(pick.randint(1, most))]
    all_of = {
        "sequence_bias": lambda: [
            [[i or 1 for i in ids(2)], pick.choice([-3.5, 0.7, 2.25])] for _ in range(pick.randint(1, 4))
        ],
        "repetition_penalty": lambda: pick.choice([1.05, 1.3, 0.8, 2.0]),
        "frequency_penalty": lambda: pick.choice([0.3, -0.5, 1.1]),
        "presence_penalty": lambda: pick.choice([0.7, -0.2, 1.5]),
        "no_repeat_ngram_size": lambda: pick.choice([1, 2, 3]),
        "bad_words_ids": lambda: [ids(3) for _ in range(pick.randint(1, 4))],
        "min_length": lambda: pick.randint(1, 12),
        "min_new_tokens": lambda: pick.randint(1, 8),
        "forced_bos_token_id": lambda: pick.randrange(WIDTH),
        "forced_eos_token_id": lambda: ids(2),
        "remove_invalid_values": lambda: True,
        "exponential_decay_length_penalty": lambda: [pick.randint(0, 4), pick.choice([1.1, 1.7])],
        "suppress_tokens": lambda: ids(3),
        "begin_suppress_tokens": lambda: ids(3),
    }
    chosen = {name: make() for name, make in all_of.items() if pick.random() < 0.25}
    chosen["eos_token_id"] = sorted(set(ids(2)))
    return chosen


def processed(model, settings, prompt, output, longest, logits):
    keys = dict(settings)
    frequency, presence = keys.pop("frequency_penalty", None), keys.pop("presence_penalty", None)
    keys["max_length"] = len(prompt) + longest
    config = transformers.GenerationConfig(**keys)
    config._eos_token_tensor = torch.tensor(settings["eos_token_id"])
    # The values that transformers fills in where nothing is stated.
    config.update(**config._get_default_generation_params(), defaults_only=True)
    if config.min_new_tokens is not None:
        config.min_length = config.min_new_tokens + len(prompt)
    processors = list(model._get_logits_processor(config, input_ids_seq_length=len(prompt), device="cpu"))
    ids = torch.tensor([prompt + output], dtype=torch.long)
    scores = logits.clone()[None]

    def penalties(scores):
        counts = torch.bincount(torch.tensor(output, dtype=torch.long), minlength=WIDTH)[None]
        if frequency is not None:
            scores = scores - torch.tensor([[frequency]], dtype=torch.float32) * counts
        if presence is not None:
            scores = scores - torch.tensor([[presence]], dtype=torch.float32) * (counts > 0)
        return scores

    names = [type(processor).__name__ for processor in processors]
    before = {"SequenceBiasLogitsProcessor", "RepetitionPenaltyLogitsProcessor"}
    place = max((i + 1 for i, name in enumerate(names) if name in before), default=0)
    for i, processor in enumerate(processors):
        if i == place:
            scores = penalties(scores)
        scores = processor(ids, scores)
    if place == len(processors):
        scores = penalties(scores)
    return scores[0]


def rows(model):
    pick = random.Random(15)
    for _ in range(220):
        settings = drawn(pick)
        prompt = [pick.randrange(WIDTH) for _ in range(pick.choice([1, 2, 5, 9]))]
        output = [pick.randrange(WIDTH) for _ in range(pick.choice([0, 0, 1, 3, 6]))]
        longest = len(output) + pick.choice([1, 1, 4])
        values = [pick.uniform(-12, 12) for _ in range(WIDTH)]
        if "remove_invalid_values" in settings and "sequence_bias" not in settings:
            values[pick.randrange(WIDTH)] = pick.choice([float("nan"), float("inf"), -float("inf")])
        logits = torch.tensor(values, dtype=torch.float32)
        try:
            scores = processed(model, settings, prompt, output, longest, logits)
        except ValueError:  # settings that transformers refuses together
            continue
        yield {
            "settings": settings, "prompt": prompt, "output": output, "longest": longest,
            "logits": bits(logits), "scores": bits(scores),
        }


def tokens(model):
    prompt = [(7 * i * i + 3 * i + 1) % 500 for i in range(48)]
    plain = generated(model, prompt, {})
    variants = [
        {"repetition_penalty": 1.05}, {"repetition_penalty": 1.5}, {"repetition_penalty": 0.8},
        {"no_repeat_ngram_size": 1}, {"no_repeat_ngram_size": 2, "sequence_bias": [[[plain[0]], 20.0]]},
        {"bad_words_ids": [[plain[0]], [plain[1], plain[2]]]}, {"suppress_tokens": plain[:3]},
        {"begin_suppress_tokens": plain[:1]}, {"eos_token_id": plain[2:3], "min_new_tokens": 6},
        {"eos_token_id": plain[2:3], "min_length": 53}, {"forced_eos_token_id": [17]},
        {"sequence_bias": [[[33], 8.0], [[plain[0], 44], 30.0]]},
        {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "suppress_tokens": plain[:1]},
    ]
    yield {"settings": {}, "prompt": prompt, "tokens": plain}
    for settings in variants:
        found = generated(model, prompt, settings)
        assert found != plain, settings
        yield {"settings": settings, "prompt": prompt, "tokens": found}


def generated(model, prompt, settings, steps=16):
    keys = {"eos_token_id": None, **settings}
    with torch.no_grad():
        ids = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
            max_new_tokens=steps, pad_token_id=0, **keys,
        )
    return ids[0, len(prompt) :].tolist()


def main():
    parser = argparse.ArgumentParser()
    for name in ("mantissa", "scratch", "out"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    source = args.scratch / "qwen3"
    if not source.is_dir():
        command = [args.mantissa, "synth", "--arch", "qwen3", "--seed", "1", "--out", source]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(source), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model.generation_config = transformers.GenerationConfig()
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    parts = [f'"versions": {json.dumps(versions)}']
    for name, made in (("tokens", tokens(model)), ("rows", rows(model))):
        lines = ",\n".join(json.dumps(entry) for entry in made)
        parts.append(f'"{name}": [\n{lines}\n]')
    args.out.write_text("{" + ",\n".join(parts) + "}\n")


if __name__ == "__main__":
    main()
