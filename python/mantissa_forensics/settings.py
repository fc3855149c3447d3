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


def _plain(value):
    """A value as JSON has it: tensors and tuples as lists, biases of sequences as pairs."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return [[list(ids), bias] for ids, bias in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
