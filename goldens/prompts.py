"""Prompts as transformers makes them: tokenizers × chat templates × odd texts.

    pip install transformers==5.17.0 jinja2
    python3 goldens/prompts.py make FOLDER goldens/prompts.json.gz
    pip install transformers==4.57.6            # in another environment
    python3 goldens/prompts.py compare FOLDER goldens/prompts.json.gz

No model is downloaded: each tokenizer is trained here on the texts of `fixtures/documents`, in the shape that a known
family of tokenizers has. `make` writes a folder for each (`tokenizer.json`, `tokenizer_config.json`, `config.json`),
opens it with `AutoTokenizer`, and keeps for each prompt its messages, the text of `apply_chat_template` and its ids
(`tokenize=True`); of plain texts the ids of `tokenizer(text)`. `compare` adds the ids of another version where they
are not the same. `crates/model/tests/it/prompts.rs` makes the same from the same files.
"""

import datetime
import gzip
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import tokenizers
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import AddedToken

HERE = Path(__file__).resolve().parent
DAY = datetime.datetime(2024, 7, 26)

GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def words(digits):
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
]

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'"
    " + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "llama3": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "llama2": (
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
        "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}"
        "{% endif %}"
        "{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + "
        "'\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for message in messages if message['role'] != 'system' %}{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + eos_token }}"
        "{% endif %}{% endfor %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
        "{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] "
        "| trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
    ),
    "phi3": (
        "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + "
        "'<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
        "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    "qwen3": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string
        and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.last or (not loop.last and reasoning_content) and loop.index0 > ns.last_query_index %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n'
                + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "odd": """{% macro turn(m, n) -%}
    ({{ n }}) {{ m.role | upper }}: {{ m.content | tojson }}{% if not loop %}{% endif %}
{%- endmacro %}
{% generation %}{% for m in messages %}{% if loop.index > 9 %}{% break %}{% endif %}
  {{ turn(m, loop.index) }} {{ m['content'] | length }} {{ m.content.title()[:5] | replace("a", "b") }}
{% endfor %}{% endgeneration %}{{ strftime_now("%A %-d %B %y, %I:%M %p, %j")
}}{{ pad_token }}{{ unk_token }}{{ eos_token }}""",
}

TEMPLATES["python"] = r"""{% set m = messages[-1] %}{% set c = m.content %}
{{ none }} {{ true }} {{ 1.0 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ [1, "a'b", none, {'k': false}] }}
{{ c | string | trim | length }} {{ c.split()[:3] }} {{ c.strip('a ')
    | upper }} {{ c.split('e', 1)[0] | lower | capitalize }}
{{ c[::-1] }} {{ c[2:9] ~ '|' ~ true }} {{ 'bit' in c }} {{ c.startswith('a') }} {{ c is string }} {{ m is mapping }}
{% for k, v in m.items() %}{{ k }}={{ v | length }}{{ "," if not loop.last }}{% endfor %}
{{ messages | map(attribute='role') | join(' > ') }} {{
    messages | selectattr('role', 'equalto', 'user') | list | length }}
{{ c.replace('a', 'b').find('b') }} {{ (c | first) if c else 'empty' }} {{
    nothing | default('absent') }} {{ m.get('name', 'nameless') }}
{%- for part in c.splitlines() %}[{{ loop.index }}:{{ part.rstrip() }}]{% endfor %}
{{ range(3) | list }} {{ '%s-%d' | format('s', 3) }} {{ 'abc'[-2] }} {{
    m.content | tojson }} {{ {'b': [1, 2.5], 'a': none} | tojson }}"""

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>",
]
TEXTS = [
    "The last bit of a sum depends on its order.",
    " leading and trailing ",
    "tabs\tand\t\ttabs\r\nCRLF\rCR\n\n\nnewlines  \n ",
    "12345 6789 0.1e-7 ٣٤٥ ½ ⅷ 一二三",
    "naïve café ﬁne Å A\u030a e\u0301 \u1e9b\u0323 ſtraße",
    "emoji 🦀 👩‍🔬 👩🏽‍🚀 🇩🇪 ❤️",
    "العربية من اليمين \u202bRTL\u202c עברית",
    "日本語のテキスト、句読点。한국어 ไทย हिन्दी",
    "NUL \u0000 BOM \ufeff NBSP\u00a0ZWSP\u200bZWNJ\u200cSHY\u00ad",
    "   " * 30 + "x" + "\t" * 17 + "\n" * 9 + " y",
    "it's I'LL we'Ve 'tis d'être rock'n'roll",
    "<|im_start|>system\nno<|im_end|> [INST] <s></s> <unk> <start_of_turn>",
    "<|im_end|>\n  <|im_start|> user<|user|>  <|end|>\t<pad><mask>",
    "a<tool> <tool>b<tool>c xtooly TOOL tool, Tool",
    "▁lower one eighth ▁▁ block _under_ <0x0A> Ġ Ċ",
    "{{ 7 * 7 }} {% raw %} \\n \"quoted\" <b>&amp;</b>",
    "https://example.org/a?b=c&d=%20#e_f-g (x+y)^2 == x**2 // $1,234.56",
    "",
    "a",
    "  \n",
]


def corpus():
    names = ["demo.txt", "neighbour.txt", "letters.txt"]
    texts = [(HERE.parent / "fixtures/documents" / name).read_text(encoding="utf-8") for name in names]
    return texts + TEXTS * 3


def byte_level(pre, normalizer=None, special=SPECIAL, size=600, ignore_merges=False, post=None, trim=True):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = post(tokenizer) if post else processors.ByteLevel(trim_offsets=trim)
    return tokenizer


def split(*patterns, prefix=False):
    pieces = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*pieces, pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False)])


def bos(token):
    def post(tokenizer):
        template = processors.TemplateProcessing(
            single=f"{token}:0 $A:0", pair=f"{token}:0 $A:0 $B:1",
            special_tokens=[(token, tokenizer.token_to_id(token))],
        )
        return processors.Sequence([processors.ByteLevel(trim_offsets=True), template])

    return post


def around(*, bos=None, eos=None):
    def post(tokenizer):
        single = ([f"{bos}:0"] if bos else []) + ["$A:0"] + ([f"{eos}:0"] if eos else [])
        named = [(token, tokenizer.token_to_id(token)) for token in (bos, eos) if token]
        return processors.TemplateProcessing(single=" ".join(single), pair="$A:0 $B:1", special_tokens=named)

    return post


def sentence_piece(normalizer, pre, added=(), post=None, pieces=400, control=("<unk>", "<s>", "</s>")):
    """BPE over pieces with ▁, byte fallback: a vocabulary such as SentencePiece leaves."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("▁+[^▁]*|[^▁]+"), "isolated")
    trained.train_from_iterator(
        corpus()[:3], trainers.BpeTrainer(vocab_size=pieces, show_progress=False)
    )
    model = json.loads(trained.to_str())["model"]
    order = sorted(model["vocab"], key=model["vocab"].get)
    tokens = list(control) + [f"<0x{byte:02X}>" for byte in range(256)]
    tokens += [token for token in order if token not in tokens]
    merges = [tuple(merge) for merge in model["merges"]]
    for run in ("▁▁", "▁▁▁▁"):
        half = run[: len(run) // 2]
        if run not in tokens:
            tokens.append(run)
            merges.append((half, half))
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)}, merges=merges, unk_token=control[0],
            fuse_unk=True, byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizer
    if pre is not None:
        tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    for token in added:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    if post:
        tokenizer.post_processor = post(tokenizer)
    return tokenizer


def prepend():
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(corpus()[:3], trainer)
    tokenizer.decoder = decoders.Metaspace("▁", "always")
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = around(eos="</s>")(tokenizer)
    return tokenizer


def word_piece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = around(bos="[CLS]", eos="[SEP]")(tokenizer)
    return tokenizer


PHI3 = [
    AddedToken(text, rstrip=True, normalized=False, special=True)
    for text in ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
]
INSTRUCT = ["[INST]", "[/INST]"]
TURNS = [AddedToken(text, normalized=False, special=True) for text in ("<start_of_turn>", "<end_of_turn>")]
SHAPES = [
    AddedToken("<tool>", lstrip=True, special=False, normalized=False),
    AddedToken("tool", single_word=True, special=False, normalized=True),
    AddedToken("<|user|>", lstrip=True, rstrip=True, special=True, normalized=False),
    AddedToken("TOOL", special=False, normalized=True),
    AddedToken("<|end|>", rstrip=True, special=True, normalized=False),
]


def shaped(tokenizer):
    for token in SHAPES:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    return tokenizer


FAST = "PreTrainedTokenizerFast"
ENDS = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
STARTS = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
PIECES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
LEVEL = pre_tokenizers.ByteLevel


def tokenizer_folders():
    """Name → tokenizer, its own settings, the model's type, templates."""
    return {
        "gpt2": (
            byte_level(LEVEL(add_prefix_space=False)), {"tokenizer_class": FAST, **ENDS}, "llama", "chatml odd python",
        ),
        "prefix": (
            byte_level(LEVEL(add_prefix_space=True)), {"tokenizer_class": FAST, **ENDS}, "llama", "chatml qwen3",
        ),
        "smollm": (
            byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(True), LEVEL(add_prefix_space=False)])),
            {"tokenizer_class": FAST, **ENDS}, "llama", "chatml odd",
        ),
        "llama3": (
            byte_level(split(words(r"\p{N}{1,3}")), ignore_merges=True, post=bos("<|begin_of_text|>")),
            {"tokenizer_class": FAST, **STARTS}, "llama", "llama3 chatml",
        ),
        "qwen2": (
            byte_level(split(words(r"\p{N}")), normalizers.NFC()),
            {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, **ENDS}, "qwen2", "qwen3 chatml odd",
        ),
        "gpt4o": (byte_level(split(GPT4O)), {"tokenizer_class": FAST, **ENDS}, "gpt_oss", "odd chatml"),
        "deepseek": (byte_level(split(*DEEPSEEK)), {"tokenizer_class": FAST, **ENDS}, "deepseek_v2", "chatml"),
        "shapes": (
            shaped(byte_level(split(words(r"\p{N}")), normalizers.NFC())),
            {"tokenizer_class": FAST, **ENDS}, "qwen3", "phi3 chatml",
        ),
        "mistral": (
            sentence_piece(prepend(), None, post=around(bos="<s>")),
            {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": True, **PIECES}, "mistral",
            "mistral llama2",
        ),
        "mistral3": (
            sentence_piece(None, pre_tokenizers.Metaspace("▁", "first", split=False), added=INSTRUCT_TOKENS,
                           post=around(bos="<s>")),
            {"tokenizer_class": "LlamaTokenizerFast", "legacy": False, **PIECES}, "mistral", "mistral",
        ),
        "llama2": (
            sentence_piece(prepend(), None, post=around(bos="<s>")),
            {"tokenizer_class": "LlamaTokenizer", "legacy": True, **PIECES}, "llama", "llama2 chatml",
        ),
        "llama2_silent": (
            sentence_piece(prepend(), None, post=around(bos="<s>")),
            {"tokenizer_class": "LlamaTokenizerFast", **PIECES}, "llama", "llama2 mistral",
        ),
        "llama2_first": (
            sentence_piece(None, pre_tokenizers.Metaspace("▁", "first", split=False), post=around(bos="<s>")),
            {"tokenizer_class": "LlamaTokenizer", "legacy": False, **PIECES}, "llama", "llama2",
        ),
        "llama2_bare": (
            sentence_piece(normalizers.Replace(" ", "▁"), None, post=around(bos="<s>", eos="</s>")),
            {"tokenizer_class": FAST, **PIECES}, "llama", "llama2",
        ),
        "never": (
            sentence_piece(None, pre_tokenizers.Metaspace("▁", "never", split=True)),
            {"tokenizer_class": FAST, **PIECES}, "mixtral", "mistral",
        ),
        "always": (
            sentence_piece(None, pre_tokenizers.Metaspace("▁", "always", split=True)),
            {"tokenizer_class": FAST, **PIECES}, "olmo2", "mistral",
        ),
        "phi3": (
            sentence_piece(prepend(), None, added=PHI3),
            {"tokenizer_class": "LlamaTokenizer", "legacy": False, **PIECES}, "phi3", "phi3",
        ),
        "gemma": (
            sentence_piece(
                normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), added=TURNS,
                post=around(bos="<bos>"), control=GEMMA[3:4] + GEMMA[:3],
            ),
            {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
             "unk_token": "<unk>"}, "gemma2", "gemma",
        ),
        "unigram": (unigram(), {"tokenizer_class": FAST, **PIECES}, "llama", "mistral"),
        "wordpiece": (
            word_piece(), {"tokenizer_class": FAST, "unk_token": "[UNK]", "eos_token": "[SEP]"}, "llama", "chatml",
        ),
        "late": (
            byte_level(split(words(r"\p{N}")), normalizers.NFC(), special=SPECIAL[:1]),
            {"tokenizer_class": FAST, "eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"],
             "added_tokens_decoder": {"594": {"content": "<|user|>", "lstrip": False, "rstrip": False,
                                              "normalized": False, "single_word": False, "special": True}}},
            "qwen3", "chatml odd",
        ),
    }


INSTRUCT_TOKENS = [AddedToken(text, normalized=False, special=True) for text in INSTRUCT]


def conversations(template, number):
    """Messages of prompt `number`: a text alone, after a system message, or as the last of three turns."""
    text = TEXTS[number % len(TEXTS)]
    user = {"role": "user", "content": text}
    if number % 3 == 1 and template not in ("gemma", "mistral"):
        return [{"role": "system", "content": "Be brief."}, user]
    if number % 3 == 2:
        other = TEXTS[(number * 7 + 3) % len(TEXTS)]
        return [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": other}, user]
    return [user]


class Day(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return DAY


def fix_the_day():
    from transformers.utils import chat_template_utils

    if isinstance(chat_template_utils.datetime, type):
        chat_template_utils.datetime = Day
    datetime.datetime = Day
    chat_template_utils._compile_jinja_template.cache_clear()


def ids_of(tokenizer, prompt):
    """The prompt's text and ids."""
    if "messages" not in prompt:
        return prompt["text"], tokenizer(prompt["text"])["input_ids"]
    arguments = {"add_generation_prompt": prompt["generate"], "chat_template": prompt.get("chat_template")}
    text = tokenizer.apply_chat_template(prompt["messages"], tokenize=False, **arguments)
    ids = tokenizer.apply_chat_template(prompt["messages"], tokenize=True, return_dict=False, **arguments)
    return text, ids


def make(folder, out):
    fix_the_day()
    cases, number = [], 0
    for name, (tokenizer, settings, model_type, templates) in tokenizer_folders().items():
        for template in templates.split():
            place = folder / f"{name}_{template}"
            place.mkdir(parents=True, exist_ok=True)
            files = {
                "tokenizer.json": json.loads(tokenizer.to_str()),
                "tokenizer_config.json": {**settings, "chat_template": TEMPLATES[template]},
                "config.json": {"model_type": model_type},
            }
            for file, value in files.items():
                (place / file).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
            opened = transformers.AutoTokenizer.from_pretrained(place)
            prompts = []
            for turn in range(12):
                number += 1
                if turn % 4 == 3:
                    prompts.append({"text": TEXTS[number % len(TEXTS)]})
                else:
                    prompts.append({"messages": conversations(template, number), "generate": number % 5 != 0})
                text, ids = ids_of(opened, prompts[-1])
                prompts[-1] |= {"text": text, "ids": ids}
            cases.append({"name": place.name, "files": files, "prompts": prompts})
    total = sum(len(case["prompts"]) for case in cases)
    # The same tokenizer.json stands in a few cases: kept once, by the name of the first.
    kept = {}
    for case in cases:
        text = json.dumps(case["files"]["tokenizer.json"])
        if text in kept:
            case["files"]["tokenizer.json"] = kept[text]
        kept.setdefault(text, case["name"])
    golden = {
        "transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "day": str(DAY.date()),
        "cases": cases,
    }
    write(out, golden)
    print(f"{total} prompts of {len(cases)} folders")


def compare(folder, out):
    fix_the_day()
    golden = json.loads(gzip.decompress(out.read_bytes()))
    differing = 0
    for case in golden["cases"]:
        opened = transformers.AutoTokenizer.from_pretrained(folder / case["name"])
        for prompt in case["prompts"]:
            text, ids = ids_of(opened, prompt)
            prompt.pop("ids_4_57", None)
            if ids != prompt["ids"] or text != prompt["text"]:
                prompt["ids_4_57"] = ids
                differing += 1
                print(case["name"], repr(prompt["text"][:60]), "text" if text != prompt["text"] else "ids")
    golden["compared_with"] = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    write(out, golden)
    print(f"{differing} prompts differ")


def write(out, golden):
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":"))
    out.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    {"make": make, "compare": compare}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
