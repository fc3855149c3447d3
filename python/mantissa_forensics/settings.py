"""Settings of generation that a call of `generate` applied, under the names of `setup.generation`.

They are those of the prepared configuration, with which `generate` makes its list of logits processors. Left out: what
changes no token, and how tokens are chosen without `generate`.
"""

# Values that do nothing.
_IDLE = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "bad_words_ids": [],
    "sequence_bias": [],
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
}
_DRAWS = ("temperature", "top_k", "top_p", "min_p")
# What Mantissa knows by name alone: only draws read the first four.
_OTHER_DRAWS = {"typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "top_h": None}
_OTHER = {
    "num_beams": 1,
    "guidance_scale": 1.0,
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "penalty_alpha": None,
    "dola_layers": None,
    "watermarking_config": None,
    "renormalize_logits": False,
}
_LISTS = ("eos_token_id", "forced_eos_token_id")
# Below it vLLM 0.24 takes the largest logit.
_LEAST_TEMPERATURE = 1e-5


def of(config, processors=()):
    """The settings of a prepared `GenerationConfig`, and names of the caller's own logits processors."""
    found = {name: _plain(getattr(config, name, None)) for name in _IDLE}
    found = {name: value for name, value in found.items() if value not in (None, _IDLE[name])}
    if "min_new_tokens" in found:
        # `generate` has put the prompt's length and these in its place.
        found.pop("min_length", None)
    drawn = bool(getattr(config, "do_sample", False))
    if drawn:
        found["do_sample"] = True
        draws = {name: _plain(getattr(config, name, None)) for name in _DRAWS}
        found |= {name: value for name, value in draws.items() if value is not None}
    if getattr(config, "remove_invalid_values", False):
        found["remove_invalid_values"] = True
    ends = _plain(getattr(config, "eos_token_id", None))
    if ends in (None, []):
        # Whatever the model's own file says, nothing ended this output.
        found["ignore_eos"] = True
    else:
        found["eos_token_id"] = ends
    for name in _LISTS:
        if isinstance(found.get(name), int):
            found[name] = [found[name]]
    names = _OTHER | (_OTHER_DRAWS if drawn else {})
    other = {name: getattr(config, name, None) for name in names}
    other = {name: str(value) for name, value in other.items() if value not in (None, names[name])}
    if processors:
        other["logits_processor"] = ", ".join(processors)
    return found | ({"other": other} if other else {})


def act(settings):
    """Whether they may choose another token than that of the largest logit."""
    return bool(settings.keys() - {"eos_token_id", "ignore_eos"})


def choice(greedy, seen):
    """How tokens were chosen, and under which settings where those were seen.

    Under settings that act, greedy tokens need not have the largest logits: a verifier computes the choice again.
    """
    if seen is not None and seen.get("do_sample"):
        return {"decoding": "sampled", "generation": seen}
    if seen is not None and (greedy or act(seen)):
        return {"decoding": "greedy", "generation": seen}
    return {"decoding": "greedy" if greedy else "teacher_forced"}


def of_vllm(params):
    """The settings of vLLM's `SamplingParams`, as its engine took them over: the model's own ends are among them.

    Under `other` stands what is done otherwise than in `generate`: bad words of several tokens are looked for in
    outputs alone, and penalties come after biases.
    """
    value = lambda name, idle: x if (x := getattr(params, name, None)) not in (None, idle) else None
    idle = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    found = {name: x for name, nothing in idle.items() if (x := value(name, nothing)) is not None}
    other = {}
    drawn = params.temperature >= _LEAST_TEMPERATURE
    if drawn:
        found |= {"do_sample": True, "temperature": params.temperature}
        for name, nothing in {"top_k": (0, -1), "top_p": (1.0,), "min_p": (0.0,), "seed": ()}.items():
            if (x := getattr(params, name, None)) is not None and x not in nothing:
                found[name] = x
    if biases := value("logit_bias", {}):
        found["sequence_bias"] = [[[int(token)], float(bias)] for token, bias in biases.items()]
        if len(found.keys() & idle.keys()):
            other["order"] = "biases before penalties"
    words = getattr(params, "_bad_words_token_ids", None) or []
    if all(len(word) == 1 for word in words):
        found |= {"bad_words_ids": [list(word) for word in words]} if words else {}
    else:
        other["bad_words"] = str([list(word) for word in words])
    stops = set(getattr(params, "stop_token_ids", None) or [])
    own = getattr(params, "_eos_token_id", None)
    if own is not None and not params.ignore_eos:
        stops.add(own)
    if stops:
        found["eos_token_id"] = sorted(stops)
    elif params.ignore_eos or hasattr(params, "_eos_token_id"):
        found["ignore_eos"] = True
    if least := value("min_tokens", 0):
        # The model's own end is held back where it ends nothing, too.
        (other if params.ignore_eos else found).update({"min_tokens" if params.ignore_eos else "min_new_tokens": least})
    for name in ("allowed_token_ids", "structured_outputs", "thinking_token_budget", "extra_args"):
        if (x := value(name, None)) is not None:
            other[name] = str(x)
    other = {name: str(x) for name, x in other.items()}
    return found | ({"other": other} if other else {})


def _plain(value):
    """A value as JSON has it: tensors and tuples as lists, biases of sequences as pairs."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return [[list(ids), bias] for ids, bias in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
