"""`Capture`: what anybody's `generate` or forward calls leave at the sites of a transformers model.

Data flows so: hooks (`taps`) give rows of a pass; `_Pass` knows which positions of which sequences they are; the drain
brings their bits to the host; `_Conversation` keeps them by site and position, from the pass that fills an empty cache
to the last decode step; `runs` cuts the windows that the container has. Conversations with the same prompts in the same
batch are repetitions of each other.

A pass is looked at, never changed. What cannot be seen, or cannot be told, is an error that says so: a capture is
evidence, and a guess is not. Left out: what ran (`observe`), whose weights (`weights`), the file (`container`).
"""

import contextlib
import dataclasses
import inspect
import sys
import threading
import time
from datetime import datetime, timezone

import numpy as np
import torch

from . import observe, settings, sites
from .container import Logprobs, Neighbour, Phase, Run, Tensor
from .drain import Drain
from .errors import CaptureError
from .families import Anatomy
from .taps import FLAT, HEADS, Taps

POSITIONS = (-3, -2, -1)
ALL = "all"


class Capture:
    """Keeps the signals of every pass of `model` while it is open.

        with Capture(model) as c:
            model.generate(**inputs)
        c.save("evidence")

    - `layers`: numbers from 1 and `"last"`, or `"all"`; default those of 1, 2, 4, 12, last that the model has.
    - `sites`: points (`"x_out"`), whole sites (`"layer_4.q"`), or `"all"`; default `x_out`, `k`, `final_norm`.
    - `positions`: relative to the end of a sequence; default -3, -2, -1, or -1 alone where `generate` computed no more
      logits. `"all"`: every position of a prompt, and of each decode step its own. `top_k`: candidates per position, 0
      for none.
    - `sequences`: rows of the batch to keep, default all.
    - `expect`: settings that must have taken effect (`observe.AXES`); `save` fails where one did not.
    - `memory_limit`: bytes of signals after which the capture ends with an error.
    """

    def __init__(
        self,
        model,
        *,
        layers=None,
        sites=None,
        positions=None,
        top_k=10,
        sequences=None,
        expect=None,
        memory_limit=8 << 30,
    ):
        self.anatomy = Anatomy(model)
        self.model = model
        self.layers_asked = layers
        self.sites = _sites(self.anatomy, layers, sites)
        self.positions = positions if positions in (None, ALL) else _ascending(positions)
        self.top_k, self.sequences, self.expect = top_k, sequences, dict(expect or {})
        self.conversations, self.notes, self.kernels = [], [], []
        self._limit = memory_limit
        self._drain = Drain(limit=memory_limit)
        self._pass, self._stack = None, None
        # Of the call of `generate` whose first pass is still to come.
        self._settings = None
        self._signature = inspect.signature(self.anatomy.causal.forward)
        self.watch = observe.Watch(self.anatomy.module)
        self.compiled = observe.compiled_parts(model)
        self.graphs = 0
        inside = [site for site in self.sites if site != "logits"]
        if self.compiled and inside:
            fault = f"the model is compiled, and {inside[0]} cannot be seen inside compiled code"
            raise CaptureError(fault, "give sites=['logits'], or capture without torch.compile")

    @property
    def reach(self):
        """Positions of a pass that are kept, from its end."""
        return sys.maxsize if self.positions == ALL else -min(self.positions or POSITIONS)

    def __enter__(self):
        if self._stack is not None:
            raise CaptureError("this capture is open", "use one `with` at a time")
        causal = self.anatomy.causal
        if causal.training:
            raise CaptureError("the model is in training mode", "call model.eval() first: dropout leaves other bits")
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.watch)
            stack.enter_context(self._generation())
            if self.compiled:
                self._graphs_before = observe.graphs()
                stack.enter_context(self._around_compiled())
            else:
                stack.enter_context(Taps(self.anatomy, [s for s in self.sites if s != "logits"], self._put))
                stack.callback(causal.register_forward_pre_hook(self._before, with_kwargs=True).remove)
                stack.callback(causal.register_forward_hook(self._after).remove)
            self._thread = threading.get_ident()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind, *_):
        stack, self._stack = self._stack, None
        self._pass = None
        self.watch.end()
        stack.close()
        self._let_go()
        self._drain.finish()
        self.graphs = observe.graphs()
        if kind is None and not self.conversations:
            raise CaptureError("no pass of the model was seen", "call model(…) or model.generate(…) inside the `with`")

    def _let_go(self):
        """Caches and logits are the caller's memory: only a conversation that may go on holds them."""
        for conversation in self.conversations:
            conversation.cache = conversation.next = None

    # ---- passes ------------------------------------------------------------------------------------------------------

    def _before(self, _, arguments, more):
        self._begin(self._signature.bind_partial(*arguments, **more).arguments)

    def _after(self, _, inputs, output):
        self._end(output)

    def _begin(self, given):
        if threading.get_ident() != self._thread:
            return
        given = {**given, **given.get("kwargs", {})}
        ids = given.get("input_ids")
        if ids is None:
            raise CaptureError("a pass was given embeddings, whose token ids nobody knows", "pass input_ids")
        if ids.dim() == 1:
            ids = ids[None]
        cache = given.get("past_key_values")
        batch, length = ids.shape
        self.watch.begin(batch, ids.device)
        conversation, past = self._conversation(cache, batch, length)
        seen, self._settings = self._settings, None
        if conversation is not None and seen is not None:
            # `generate` goes on with a cache that other calls filled.
            if conversation.steps and seen != conversation.settings:
                fault = "generate goes on with a cache whose tokens were chosen otherwise"
                raise CaptureError(fault, "give it a prompt's cache, or none")
            conversation.settings = seen
        if conversation is None:
            rows = list(range(batch)) if self.sequences is None else list(self.sequences)
            if not rows or not all(0 <= row < batch for row in rows):
                raise CaptureError(f"there are no sequences {rows} in a batch of {batch}", f"rows are 0 to {batch - 1}")
            conversation = _Conversation(rows, batch, settings=seen)
            conversation.start(given, length, self.reach)
            self._let_go()
            self.conversations.append(conversation)
        elif conversation.ragged:
            fault = "a pass goes on after a prompt that was padded on the right"
            raise CaptureError(fault, "pad on the left (tokenizer.padding_side = 'left')")
        elif conversation.steps or length == 1:
            if length != 1:
                fault = f"a pass of {length} tokens after decode steps (assisted or continued generation)"
                raise CaptureError(fault, "capture plain decoding, one token a pass, from a new cache")
            conversation.steps += 1
        else:
            conversation.more_prompt(length)
        conversation.cache = cache
        self._pass = _Pass(conversation, past, length, min(self.reach, length))
        self._pass.decodes = conversation.steps > 0
        self._pass.keep_tokens(ids)

    def _conversation(self, cache, batch, length):
        """The conversation that a pass goes on with, and what is cached; `None` for a new one."""
        last = self.conversations[-1] if self.conversations else None
        if cache is None:
            return None, 0
        mine = last is not None and last.cache is cache and last.batch == batch
        # A static cache has its length on the device: asking would wait for it.
        if mine and length == 1 and last.steps:
            return last, last.total
        past = int(cache.get_seq_length())
        if past == 0:
            return None, 0
        if not mine:
            fault = f"a cache of {past} tokens that this capture did not see filled"
            raise CaptureError(fault, "open the capture before the prompt is fed")
        if past != last.total:
            fault = f"the cache holds {past} tokens and {last.total} were fed (assisted or continued generation)"
            raise CaptureError(fault, "capture plain decoding")
        return last, past

    def _put(self, site, x, layout):
        now = self._pass
        if now is None or threading.get_ident() != self._thread:
            return
        now.put(site, now.rows_of(x.detach(), layout))

    def _end(self, output):
        now, self._pass = self._pass, None
        if now is None:
            return
        self.watch.end()
        conversation = now.conversation
        logits = output.logits if hasattr(output, "logits") else output[0]
        if conversation.cache is None:
            conversation.cache = getattr(output, "past_key_values", None)
        # Of a first pass without one, the model makes it.
        self.watch.caches.add("none" if conversation.cache is None else type(conversation.cache).__name__)
        self._logits(now, logits.detach())
        self._drain.take(now.pieces)
        conversation.total += now.length

    def _logits(self, now, logits):
        """Keeps logits and candidates where the pass computed them for every position.

        `generate` asks for the last position's alone: a product of other rows, which may be other bits than those of
        the whole pass, so a prompt's are then not kept.
        """
        conversation, kept = now.conversation, logits.shape[1]
        self.watch.work_dtypes.add(logits.dtype)
        if logits.dtype not in observe.DTYPES:
            raise CaptureError(f"logits are {logits.dtype}", "evidence holds f32, bf16 and f16")
        whole = kept == now.length
        rows = now.last(logits) if whole or now.decodes else None
        if rows is None:
            conversation.prefill_logits = kept
        else:
            if "logits" in self.sites:
                now.put("logits", rows)
            if self.top_k:
                values = torch.log_softmax(rows.float(), dim=-1)
                found = values.topk(min(self.top_k, values.shape[-1]), dim=-1)
                now.put("logprobs.token_ids", found.indices.to(torch.int32))
                now.put("logprobs.log_probs", found.values)
        conversation.vocabulary = logits.shape[-1]
        # The next tokens are greedy if they have the largest of these.
        conversation.next = now.newest(logits)

    # ---- compiled models, generate -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _around_compiled(self):
        """Looks at a compiled model from outside: what is compiled stays as it is."""
        outer, causal = self.model, self.anatomy.causal
        if "" not in self.compiled and not getattr(causal, "_compiled_call_impl", None):
            # Parts alone are compiled: hooks of the whole are outside of them.
            handles = [causal.register_forward_pre_hook(self._before, with_kwargs=True)]
            handles.append(causal.register_forward_hook(self._after))
            yield
            for handle in handles:
                handle.remove()
        elif getattr(causal, "_compiled_call_impl", None):
            call = causal._compiled_call_impl

            def around(*arguments, **more):
                self._before(None, arguments, more)
                output = call(*arguments, **more)
                self._after(None, None, output)
                return output

            causal._compiled_call_impl = around
            try:
                yield
            finally:
                causal._compiled_call_impl = call
        else:
            handles = [outer.register_forward_pre_hook(self._before, with_kwargs=True)]
            handles.append(outer.register_forward_hook(self._after))
            try:
                yield
            finally:
                for handle in handles:
                    handle.remove()

    @contextlib.contextmanager
    def _generation(self):
        """Looks at the settings of `generate`, and refuses what it may do behind a capture's back: compile by itself,
        reorder a cache."""
        causal = self.anatomy.causal

        def compiles(*_):
            fault = "generate compiles the model by itself (static cache)"
            raise CaptureError(fault, "give generate(…, disable_compile=True), or a dynamic cache")

        def reorders(*_, **__):
            raise CaptureError("beam search reorders the cache between steps", "capture num_beams=1")

        from transformers.cache_utils import Cache

        processors = getattr(causal, "_get_logits_processor", None)

        def prepared(generation_config, *arguments, logits_processor=None, **more):
            own = [type(one).__name__ for one in logits_processor or ()]
            own += [name for name in ("prefix_allowed_tokens_fn",) if more.get(name) is not None]
            self._settings = settings.of(generation_config, own)
            return processors(generation_config, *arguments, logits_processor=logits_processor, **more)

        if processors is not None:
            causal._get_logits_processor = prepared
        reorder = Cache.reorder_cache
        causal.get_compiled_call = compiles
        Cache.reorder_cache = reorders
        try:
            yield
        finally:
            if processors is not None:
                del causal._get_logits_processor
            self._settings = None
            del causal.get_compiled_call
            Cache.reorder_cache = reorder

    def profile(self, run):
        """Notes the kernels of one extra call of `run`, which the capture does not keep."""
        if self._stack is not None:
            raise CaptureError("the profiler's pass is an extra one", "call profile after the `with`")
        self.kernels, streams = observe.kernels(run)
        if streams > 1:
            self.notes.append(f"the profiler saw {streams} streams")

    # ---- what was kept -----------------------------------------------------------------------------------------------

    def batches(self):
        """Runs of each make-up of the batch: `[(conversation, [Run])]`, references and repetitions not numbered."""
        return [(conversation, self._runs(conversation)) for conversation in self.conversations]

    def _runs(self, conversation):
        positions = self.positions
        logits = self.top_k or "logits" in self.sites
        if positions is None:
            # Behind a prompt without logits only the newest position has all signals at the first step.
            positions = [-1] if logits and conversation.prefill_logits else list(POSITIONS)
        elif positions != ALL and logits and conversation.prefill_logits and conversation.steps and -min(positions) > 1:
            fault = f"logits of the prompt were computed at its last {conversation.prefill_logits} positions alone"
            raise CaptureError(fault, "give positions=[-1], or top_k=0 and no logits")
        runs = [conversation.run(index, positions) for index in range(len(conversation.rows))]
        for run in runs:
            self._gather_heads(run)
        return runs

    def _gather_heads(self, run):
        """Puts the heads of tensor-parallel ranks side by side: each has its own queries, keys and values."""
        query_heads, kv_heads, width = self.anatomy.heads
        for phase in run.phases.values():
            for site in sorted(phase.tensors, key=sites.order):
                point, tensor = sites.split(site)[1], phase.tensors[site]
                whole = width * (query_heads if point == "q" else kv_heads)
                if point not in ("q", "k", "v") or tensor.bits.shape[2] == whole:
                    continue
                parts = [None] * torch.distributed.get_world_size()
                torch.distributed.all_gather_object(parts, tensor.bits)
                # Where there are more ranks than KV heads, each head is on several of them.
                copies = max(1, len(parts) * tensor.bits.shape[2] // whole)
                tensor.bits = np.concatenate(parts[::copies], axis=2)

    def save(self, path, **more):
        """Writes the container. See `evidence.save` for its arguments."""
        from .evidence import save

        return save(self, path, **more)


def _sites(anatomy, layers, points):
    return sites.chosen(layers, points, len(anatomy.blocks), anatomy.has)


def _ascending(positions):
    found = sorted({int(p) for p in positions})
    if not found or found[-1] >= 0:
        raise CaptureError(f"positions {list(positions)} do not lie before the end", "count from the end: -3, -2, -1")
    return found


class _Pass:
    """One forward pass: which positions its rows are.

    Columns are positions of the padded batch. Kept are the last `keep` of each sequence.
    """

    def __init__(self, conversation, past, length, keep):
        self.conversation, self.past, self.length, self.keep = conversation, past, length, keep
        self.pieces, self.decodes = [], False
        self.all_rows = conversation.rows == list(range(conversation.batch))

    def rows_of(self, x, layout):
        """The rows kept, a copy of their own. *Shape:* to `[sequences kept, positions kept, width]`."""
        if layout == FLAT:
            x = x.reshape(self.conversation.batch, self.length, -1)
        elif layout == HEADS:
            x = x.transpose(1, 2)
        x = self.last(x)
        return x.flatten(2) if layout == HEADS else x

    def last(self, x):
        """*Shape:* `[batch, positions, …]` to `[sequences kept, positions kept, …]`."""
        conversation = self.conversation
        if not conversation.ragged:
            x = x[:, -self.keep :]
            return x if self.all_rows else x[conversation.rows]
        columns = conversation.columns.to(x.device)
        rows = torch.tensor(conversation.rows, device=x.device)
        return x[rows[:, None], columns]

    def newest(self, logits):
        """Logits of each kept sequence's newest position. *Shape:* to `[sequences kept, vocabulary]`."""
        conversation = self.conversation
        if conversation.ragged:
            return None
        last = logits[:, -1]
        last = last if self.all_rows else last[conversation.rows]
        # Of a long prompt, not all logits are to stay.
        return last.clone() if logits.shape[1] > 1 else last

    def put(self, site, x):
        conversation, column = self.conversation, self.past + self.length - self.keep
        copy = x.detach().clone(memory_format=torch.contiguous_format)
        if copy.dtype not in observe.DTYPES and copy.dtype != torch.int32:
            raise CaptureError(f"{site} is {copy.dtype}", "evidence holds f32, bf16 and f16")
        done = lambda name, bits: conversation.columns_of.setdefault(site, []).append((column, name, bits))
        self.pieces.append((copy, done))

    def keep_tokens(self, ids):
        """Ids fed, and whether those of a decode step are greedy."""
        conversation, at = self.conversation, self.past
        tokens = lambda _, bits: conversation.fed.append((at, bits))
        self.pieces.append((ids.detach().to(torch.int32), tokens))
        if self.decodes and conversation.next is not None:
            logits, own = conversation.next, ids if self.all_rows else ids[conversation.rows]
            chosen = logits.gather(1, own.to(logits.device))[:, 0] == logits.max(dim=1).values
            step = conversation.steps - 1
            greedy = lambda _, bits: conversation.greedy.append((step, bits))
            self.pieces.append((chosen.to(torch.int32), greedy))
            conversation.next = None


@dataclasses.dataclass
class _Conversation:
    """From the pass that fills an empty cache to its last decode step."""

    rows: list
    batch: int
    # Settings of the `generate` that it belongs to; `None` where none was seen.
    settings: dict | None = None
    cache: object = None
    # Tokens fed to each sequence, padding included; of the prompt; decode steps.
    total: int = 0
    length: int = 0
    steps: int = 0
    # Passes of a prompt fed in pieces.
    chunks: list = dataclasses.field(default_factory=list)
    # Of each row of the batch: padding before its prompt, tokens of its prompt.
    left: list = dataclasses.field(default_factory=list)
    real: list = dataclasses.field(default_factory=list)
    ragged: bool = False
    columns: object = None
    # By site: (first column, format, bits [sequences, positions, width]).
    columns_of: dict = dataclasses.field(default_factory=dict)
    fed: list = dataclasses.field(default_factory=list)
    greedy: list = dataclasses.field(default_factory=list)
    next: object = None
    prefill_logits: int | None = None
    vocabulary: int = 0
    began: float = 0.0
    timestamp: str = ""

    def start(self, given, length, reach):
        self.length, self.chunks = length, [length]
        self.began = time.monotonic()
        self.timestamp = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        self.left, self.real = _extent(given, self.batch, length)
        self.ragged = any(left + real != length for left, real in zip(self.left, self.real))
        if self.ragged:
            # Columns of the last positions of prompts padded on the right: as many of each. What stands before the
            # first token of a shorter one is asked for by nobody.
            ends = [self.left[row] + self.real[row] for row in self.rows]
            reach = min(reach, max(self.real[row] for row in self.rows))
            self.columns = torch.tensor([list(range(end - reach, end)) for end in ends]).clamp(min=0)

    def more_prompt(self, length):
        """Another piece of a prompt that is fed in several."""
        self.chunks.append(length)
        self.length += length
        self.real = [real + length for real in self.real]

    def padding_of(self, row):
        """Positions of the batch that hold no token of a row's prompt."""
        return self.length - self.real[row]

    def padding(self, row):
        """`none`, `left:3` or `right:3`: positions of padding before or behind a row's prompt."""
        if not self.padding_of(row):
            return "none"
        if self.left[row] and self.ragged and self.left[row] + self.real[row] != self.length:
            raise CaptureError("a prompt with padding before and behind it", "pad at one end")
        return f"{'left' if self.left[row] else 'right'}:{self.padding_of(row)}"

    def ids(self):
        """Ids fed. *Shape:* `[batch, columns]`."""
        return np.concatenate([bits for _, bits in sorted(self.fed, key=lambda piece: piece[0])], axis=1)

    def prompt_and_output(self, row, ids):
        prompt = ids[row, self.left[row] : self.left[row] + self.real[row]]
        return prompt.tolist(), ids[row, self.length :].tolist()

    def is_greedy(self, index, steps):
        """Whether the tokens of the `index`-th kept sequence had the largest logits; `None` where nobody knows."""
        found = {step: bool(bits[index]) for step, bits in self.greedy}
        if len(found) < self.steps:
            return None
        return all(found[step] for step in range(steps))

    def run(self, index, positions):
        """The run of the `index`-th sequence kept, not numbered."""
        row, ids = self.rows[index], self.ids()
        prompt, output = self.prompt_and_output(row, ids)
        later = positions
        if positions == ALL:
            # Earlier positions of a decode step are those of the prompt and of earlier steps.
            positions, later = list(range(-len(prompt), 0)), [-1]
        if len(prompt) < -positions[0]:
            fault = f"a prompt of {len(prompt)} tokens has no position {positions[0]}"
            raise CaptureError(fault, f"give positions from {-len(prompt)} on")
        table = {site: self._positions(pieces, index, row) for site, pieces in self.columns_of.items()}
        phases = {"prefill": self._phase(table, [len(prompt)], positions, self.prefill_logits is None)}
        if self.steps:
            ends = [len(prompt) + step + 1 for step in range(self.steps)]
            phases["decode"] = self._phase(table, ends, later, True)
        neighbours = [Neighbour(*self.prompt_and_output(other, ids)) for other in range(self.batch) if other != row]
        return Run("", 0, 0, prompt, output, phases, neighbours, timestamp=self.timestamp)

    def _positions(self, pieces, index, row):
        """Format, and bits of a row by its position in the sequence."""
        found, name = {}, pieces[0][1]
        for column, _, bits in pieces:
            base = self.left[row] + self.real[row] - bits.shape[1] if self.ragged else column
            for i in range(bits.shape[1]):
                found[base - self.left[row] + i] = bits[index, i]
        return name, found

    def _phase(self, table, ends, positions, with_logits):
        def window(site):
            name, rows = table[site]
            return name, np.stack([np.stack([rows[end + p] for p in positions]) for end in ends])

        tensors, logprobs = {}, None
        for site in table:
            if site.startswith("logprobs") or (site == "logits" and not with_logits):
                continue
            tensors[site] = Tensor(*window(site))
        if "logprobs.token_ids" in table and with_logits:
            (_, token_ids), (_, log_probs) = window("logprobs.token_ids"), window("logprobs.log_probs")
            logprobs = Logprobs(token_ids, log_probs, self.vocabulary)
        return Phase(len(ends), list(positions), tensors, logprobs)


def _extent(given, batch, length):
    """Of each row of a first pass: padding on the left, real tokens. *Errors:* masks that say something else."""
    mask, places = given.get("attention_mask"), given.get("position_ids")
    columns = torch.arange(length)
    if torch.is_tensor(mask) and mask.dim() == 2:
        real = mask[:, :length].bool().cpu()
        counts, lefts = real.sum(1), real.int().argmax(1)
        solid = (columns >= lefts[:, None]) & (columns < (lefts + counts)[:, None])
        if mask.shape[1] < length or bool((counts == 0).any()) or not torch.equal(solid, real):
            raise CaptureError("a mask that is not padding at the ends", "feed whole sequences, padded on the left")
    elif places is not None:
        counts = places.expand(batch, length)[:, -1].cpu() + 1
        lefts = length - counts
    elif mask is not None:
        raise CaptureError("a mask of a shape of its own, and no positions beside it", "pass a mask [batch, positions]")
    else:
        return [0] * batch, [length] * batch
    if places is not None:
        _check_places(places.expand(batch, length).cpu(), lefts, counts, columns)
    return lefts.tolist(), counts.tolist()


def _check_places(places, lefts, counts, columns):
    """Positions count up from 0 over a row's tokens, and say nothing before them."""
    wanted = columns[None] - lefts[:, None]
    inside = (wanted >= 0) & (wanted < counts[:, None])
    before = wanted < 0
    constant = torch.where(before, places == places[:, :1], True)
    if bool((lefts < 0).any()) or not torch.equal(places[inside], wanted[inside]) or not bool(constant.all()):
        raise CaptureError("positions that do not count up to the end (packed sequences)", "feed one sequence a row")
