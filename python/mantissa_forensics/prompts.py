"""Prompts of an exact number of tokens, cut from text documents by the rules of `mantissa record`
(crates/lab/src/prompt.rs).

A prompt is a text, before + slice + after, and the ids of that text, encoded whole. A slice is N tokens of the document
wherever the prompt's ids are then those of its three parts; elsewhere the program looks for another slice, and `cut`
refuses. Reference k is slice k of the first document; neighbours are the slices of the second, third, … and then those
of the first after the references, dealt in turns.
Left out: PDFs (their text is read by the program).
"""

import dataclasses
import os

from . import blake3
from .errors import CaptureError

INSTRUCTION = "Provide a summary of the text above."
_PLACEHOLDER = "qMantissaDocumentGoesHereq"


@dataclasses.dataclass
class Prompt:
    """What is fed, and where it comes from (`prompt_source` of the experiment JSON)."""

    ids: list
    source: dict | None = None


@dataclasses.dataclass
class Prompts:
    """References and, for each, the prompts beside it in its largest batch."""

    references: list
    neighbours: list

    def batch(self, reference, size):
        beside = self.neighbours[reference]
        if len(beside) < size - 1:
            fault = f"a batch of {size} needs {size - 1} other prompts, there are {len(beside)}"
            raise CaptureError(fault, "give more prompts or documents, or a smaller batch_size")
        return [self.references[reference], *beside[: size - 1]]


def of_lists(prompts, neighbours=None):
    """Lists of ids as they are fed. Beside each run the prompts that follow it, or those of `neighbours`."""
    found = [Prompt([int(token) for token in ids]) for ids in prompts]
    if not found or not all(prompt.ids for prompt in found):
        raise CaptureError("a prompt without tokens", "give lists of token ids")
    if neighbours is not None:
        beside = [Prompt([int(token) for token in ids]) for ids in neighbours]
        return Prompts(found, [beside for _ in found])
    return Prompts(found, [found[i + 1 :] + found[:i] for i in range(len(found))])


def cut(tokenizer, documents, *, tokens=512, references=1, neighbours=0, instruction=INSTRUCTION, chat_template=True):
    """`Prompts` of `tokens` document tokens. `documents`: paths of UTF-8 text; `neighbours`: batch size less one."""
    framing = _Framing(tokenizer, instruction, chat_template)
    encoded = []
    for path in documents:
        with open(path, "rb") as file:
            data = file.read()
        if data.startswith(b"%PDF"):
            raise CaptureError(f"{path} is a PDF", "record it with `mantissa record`, and force its ids here")
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        encoded.append((os.path.basename(path), blake3.digest(data), framing.encode(text)))
    slices = lambda document, first=0: [
        (document, start, document[2][start : start + tokens])
        for start in range(first * tokens, len(document[2]) - tokens + 1, tokens)
    ]
    own = slices(encoded[0])[:references]
    if len(own) < references:
        fault = f"{documents[0]} has {len(encoded[0][2])} tokens, {references} prompts of {tokens} need more"
        raise CaptureError(fault, "give a longer document, or fewer tokens")
    taken, beside = {tuple(ids) for _, _, ids in own}, []
    if len(taken) < references:
        raise CaptureError(f"two prompts of {documents[0]} are equal", "give another document")
    others = [piece for document in encoded[1:] for piece in slices(document)] + slices(encoded[0], references)
    for piece in others:
        if len(beside) < references * neighbours and tuple(piece[2]) not in taken:
            taken.add(tuple(piece[2]))
            beside.append(piece)
    if len(beside) < references * neighbours:
        fault = f"{references * neighbours} neighbours are wanted, the documents have {len(beside)}"
        raise CaptureError(fault, "give more documents, or a smaller batch")
    dealt = [[framing.prompt(piece) for piece in beside[i::references]] for i in range(references)]
    return Prompts([framing.prompt(piece) for piece in own], dealt)


class _Framing:
    """What stands around the document's tokens."""

    def __init__(self, tokenizer, instruction, chat_template):
        self.tokenizer, self.render = tokenizer, None
        if not chat_template:
            bare, framed = self.encode("a"), list(tokenizer("a")["input_ids"])
            starts = len(framed) > len(bare) and framed[1 : 1 + len(bare)] == bare
            ends = framed[1 + len(bare) :] if starts else framed[len(bare) :]
            self.before, self.after = "", f"\n\n{instruction}\n"
            self.prefix = framed[:1] if starts else []
            self.suffix = self.encode(self.after) + ends
            return
        message = [{"role": "user", "content": f"{_PLACEHOLDER}\n\n{instruction}"}]
        rendered = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        parts = rendered.split(_PLACEHOLDER)
        if len(parts) != 2:
            raise CaptureError("the chat template does not show the message once", "give chat_template=False")
        self.before, self.after = parts
        self.prefix, self.suffix = map(self.encode, parts)
        self.render = lambda own: tokenizer.apply_chat_template(
            [{"role": "user", "content": f"{own}\n\n{instruction}"}], tokenize=False, add_generation_prompt=True
        )

    def encode(self, text):
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def prompt(self, piece):
        (name, digest, _), start, ids = piece
        shown = lambda skip: self.tokenizer.decode(ids, skip_special_tokens=skip)
        if shown(True) != shown(False):
            fault = f"tokens {start} to {start + len(ids)} of {name} hold a control token"
            raise CaptureError(fault, "give another document")
        own = shown(False)
        text = self.before + own + self.after
        whole = list(self.tokenizer(text)["input_ids"]) if self.render is None else self.encode(text)
        fed = [*self.prefix, *ids, *self.suffix]
        if whole != fed or (self.render is not None and self.render(own) != text):
            fault = f"tokens {start} to {start + len(ids)} of {name} have other ids in the text of a prompt"
            raise CaptureError(fault, "record the prompt with `mantissa record`, and give its ids here")
        source = {"document": name, "document_digest": digest, "start": start, "end": start + len(ids)}
        source |= {"prefix_tokens": len(self.prefix), "suffix_tokens": len(self.suffix)}
        return Prompt(fed, source)
