"""Setups of models.py: a model cut to one block or two, and estimates of what it costs. Needs no torch."""

from models import MODELS

ATTENTIONS = ["eager", "sdpa_flash", "sdpa_math"]
# Last positions of a prompt that are compared.
POSITIONS = 3
GPU_BYTES = 78e9
# Families whose blocks alternate between a window and none.
ALTERNATE = ["gemma2", "gemma3_text", "gpt_oss"]
BLOCKS = {"full": ["full_attention"], "sliding": ["sliding_attention"], "both": ["sliding_attention", "full_attention"]}
# Emulated multiplications of a core in a second, a low estimate.
PER_SECOND = 1.0e9


def family(name):
    return MODELS[name]["model_type"]


def cut(name, blocks):
    """The configuration with these blocks."""
    config = {**MODELS[name], "num_hidden_layers": len(BLOCKS[blocks])}
    if family(name) in ALTERNATE:
        config["layer_types"] = BLOCKS[blocks]
        config.pop("sliding_window_pattern", None)
    return config


class Cost:
    """Sizes of a setup. `active` is what a row multiplies with, `held` what memory holds."""

    def __init__(self, case):
        config = cut(case["model"], case["blocks"])
        self.layers = config["num_hidden_layers"]
        hidden, self.heads, kv = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
        self.dim, self.vocabulary, self.hidden = config["head_dim"], config["vocab_size"], hidden
        self.kv = 2 * hidden * kv * self.dim
        attention = self.kv + 2 * hidden * self.heads * self.dim
        self.inner = config.get("moe_intermediate_size", config["intermediate_size"])
        experts = config.get("num_experts", config.get("num_local_experts", 1))
        self.top = config.get("num_experts_per_tok", 1)
        self.active = attention + 3 * hidden * self.inner * self.top + hidden * (experts if experts > 1 else 0)
        ends = self.vocabulary * hidden * (1 if config["tie_word_embeddings"] else 2)
        self.held = 2 * (self.layers * (attention + 3 * hidden * self.inner * experts) + ends)

    def core_seconds(self, case):
        """Of the prediction: all rows up to the last block's keys and values, then the rows that are read."""
        rows, read = case["prompt"], POSITIONS + case["steps"]
        whole = (self.layers - 1) * (rows * self.active + rows * rows * self.heads * self.dim)
        last = rows * self.kv + read * (self.active + 2 * rows * self.heads * self.dim + self.vocabulary * self.hidden)
        return (whole + last) / PER_SECOND + self.held / 1e9

    def gpu_bytes(self, case):
        batch, rows = case["batch"], case["batch"] * case["prompt"]
        soft = 4 if family(case["model"]) == "gemma2" else 1
        logits = 2 * rows * self.vocabulary * soft
        each = {"eager": 10, "sdpa": 0, "sdpa_flash": 0, "sdpa_math": 14}[case["attention"]]
        scores = batch * self.heads * case["prompt"] ** 2 * each
        mask = 4 * batch * case["prompt"] ** 2
        streams = 2 * rows * (8 * self.hidden + 6 * self.heads * self.dim)
        streams += 2 * rows * self.top * (4 * self.inner + 4 * self.hidden)
        return self.held + max(logits, scores + mask, streams) + streams / 2
