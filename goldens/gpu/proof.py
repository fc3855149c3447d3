"""The random proof: setups that Mantissa counts as covered, drawn by a seed, compared bit by bit with stock
transformers on this GPU.

    python3 proof.py MANTISSA SCRATCH OUT.json --seed N [--count 160] [--gpus 1] [--seconds LIMIT] [--dtype bf16,f16] \
        [--families LIST] [--attention LIST] [--longest 16384] [--also SETUP ...]

A setup is a model of models.py (its true widths and vocabulary; one block; where blocks alternate between a window
and none one of each, or either of them where two take too long) × batch 1 to 64 × prompt 4 to 16,384 tokens ×
eager, sdpa_flash, sdpa_math (`--attention sdpa`: left alone) × bf16, f16 × 2 to 4 decode steps, one in ten 30, and
none in `--prefill` of cases. Strata are family × attention × length (four ranges, those that begin up to `--longest`).
They are gone through in an order that the seed shuffles, and each gives a setup that

- is padded in `--padded` of cases of eager (bf16) and sdpa_math: row 0 by 1 to 64 positions on the left or the right,
  hidden by an attention mask, with position ids as `generate` makes them; the rows beside it fill the batch;
- fits: by an estimate, 78 GB hold weights, activations, scores and the logits of all positions, which stock
  transformers computes;
- costs at most `--most` core seconds on the CPU, by an estimate of the multiplications of the rows that a prediction
  computes;
- is covered: `mantissa coverage` refuses none of its passes and takes nothing from literature.

Within a stratum model, dtype and prompt (on a logarithmic scale) are drawn first and the batch evenly after them; a
setup that fails one of the three is drawn again, and the report counts why. Strata without any setup are listed.

`mantissa record` predicts each setup on this machine's CPU (HARDWARE, h200 unless told), several at a time on CORES
cores. At the same time one process per GPU runs stock transformers on the synthetic checkpoint: from_pretrained,
nothing patched but to look (look.py); the prompt in one pass, then forced tokens. Row 0 is the recorded prompt;
other rows are the same turned, and decode other tokens. Compared, as raw bits: every site of every block,
embedding, last norm and logits, at the last three positions of the prompt and at every decode step.

The report is written after every case; run again with the same arguments it goes on. After LIMIT seconds no case is
begun. Ends with 1 if a bit differs, or if a setup that counted as covered was refused or failed. SCRATCH takes a
checkpoint per model (1 to 10 GB, removed when its cases are done); a folder in memory (/dev/shm) is quickest."""

import argparse
import collections
import concurrent.futures
import contextlib
import gc
import json
import math
import multiprocessing
import os
import random
import shutil
import subprocess
import threading
import time

from look import points_of
from models import MODELS
from setups import ALTERNATE, ATTENTIONS, BLOCKS, GPU_BYTES, POSITIONS, Cost, cut, family

LENGTHS = [(4, 63), (64, 511), (512, 4095), (4096, 16384)]
# `record --no-chat-template --instruction ""` leaves so many tokens beside the document's.
AROUND = 3
# Draws before a stratum is given up.
TRIES = 60


def covered(program, scratch, case, hardware):
    """Why the setup is not covered; None if it is."""
    path = os.path.join(scratch, "configs", f"{case['model']}-{case['blocks']}.json")
    command = [program, "coverage", "--model", path, "--hardware", hardware, "--attention", case["attention"]]
    command += ["--dtype", case["dtype"], "--batch-sizes", str(case["batch"]), "--prompts", str(case["prompt"])]
    command += ["--decode", str(case["steps"]), "--format", "json"]
    command += ["--runs", "1", "--padding", case.get("padding", "none")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return "coverage: " + done.stderr.strip()
    answer = json.loads(done.stdout)["hardware"][0]
    if answer["refused"]:
        return "; ".join(cause["what"] for cause in answer["causes"]) or "refused"
    return "from literature" if answer["literature"] else None


def draw(args):
    """Cases, and what was not drawn and why."""
    lengths = [length for length in LENGTHS if length[0] <= args.longest]
    strata = [(f, a, length) for f in args.families for a in args.attention for length in lengths]
    random.Random(args.seed).shuffle(strata)
    makes = [random.Random(f"{args.seed} {f} {a} {length}") for f, a, length in strata]
    why = collections.Counter()
    empty, cases = set(), []

    def one(stratum, lot):
        (f, attention, (least, most)), found = stratum, collections.Counter()
        names = [name for name in MODELS if family(name) == f]
        for _ in range(TRIES):
            prompt = min(most, int(least * ((most + 1) / least) ** lot.random()), args.longest)
            case = {
                "model": lot.choice(names),
                "blocks": "both" if f in ALTERNATE else "full",
                "dtype": lot.choice(args.dtype),
                "attention": attention,
            }
            case |= {
                "prompt": prompt,
                "batch": lot.randint(1, 64),
                "steps": 30 if lot.random() < 0.1 else lot.randint(2, 4),
            }
            if args.prefill and lot.random() < args.prefill:
                case["steps"] = 0
            if attention == "sdpa_math" or (attention == "eager" and case["dtype"] == "bf16"):
                if lot.random() < args.padded:
                    case["padding"] = f"{lot.choice(['left', 'right'])}:{lot.randint(1, 64)}"
            if case["prompt"] + case["steps"] > MODELS[case["model"]]["max_position_embeddings"]:
                found["longer than the model's context"] += 1
                continue
            if f in ALTERNATE and Cost(case).core_seconds(case) > args.most:
                case["blocks"] = lot.choice(["full", "sliding"])
            if Cost(case).core_seconds(case) > args.most:
                found["takes longer than --most"] += 1
                continue
            while Cost(case).gpu_bytes(case) > GPU_BYTES and case["batch"] > 1:
                found["does not fit 78 GB (drawn again with a smaller batch)"] += 1
                case["batch"] = lot.randint(1, case["batch"] - 1)
            if Cost(case).gpu_bytes(case) > GPU_BYTES:
                found["does not fit 78 GB with one sequence"] += 1
                continue
            lack = covered(args.program, args.scratch, case, args.hardware)
            if lack is None:
                return case, found
            found["not covered"] += 1
            found["not covered: " + lack] += 1
        return None, found

    with concurrent.futures.ThreadPoolExecutor(args.cores) as pool:
        for _ in range(math.ceil(args.count / max(1, len(strata))) + 3):
            live = [i for i in range(len(strata)) if strata[i] not in empty]
            for i, (case, found) in zip(live, pool.map(lambda i: one(strata[i], makes[i]), live)):
                why.update(found)
                if case is None:
                    empty.add(strata[i])
                elif case not in cases:
                    cases.append(case)
            if len(cases) >= args.count or not live:
                break
    cases = cases[: args.count]
    for text in args.also:
        model, attention, dtype, prompt, batch, steps = text.split(":")
        case = {
            "model": model,
            "blocks": "both" if family(model) in ALTERNATE else "full",
            "dtype": dtype,
            "attention": attention,
        }
        case |= {"prompt": int(prompt), "batch": int(batch), "steps": int(steps)}
        lack = covered(args.program, args.scratch, case, args.hardware)
        if lack is not None:
            raise SystemExit(f"--also {text}: {lack}")
        cases.append(case)
    for number, case in enumerate(cases):
        case["number"] = number
        case["length"] = next(f"{a}-{b}" for a, b in LENGTHS if case["prompt"] <= b)
        case["core_seconds"] = round(Cost(case).core_seconds(case), 1)
    never = sorted(
        f"{f} {a} {length[0]}-{length[1]}"
        for f, a, length in empty
        if not any(stratum_of(c) == (f, a, length) for c in cases)
    )
    return cases, {"strata": len(strata), "strata_without_setups": never, "not_taken": dict(why.most_common())}


def stratum_of(case):
    return family(case["model"]), case["attention"], next(range for range in LENGTHS if case["prompt"] <= range[1])


def folder_of(scratch, case):
    return os.path.join(scratch, f"{case['model']}-{case['blocks']}")


def synthesize(args, case):
    folder = folder_of(args.scratch, case)
    config = os.path.join(args.scratch, "configs", f"{case['model']}-{case['blocks']}.json")
    command = [args.program, "synth", "--quiet", "--config", config, "--out", folder]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "RAYON_NUM_THREADS": "16"})


def predict(args, case, threads):
    """Where the prediction lies. RuntimeError with the program's words if it is refused."""
    out = os.path.join(args.scratch, f"case-{case['number']}")
    reach = min(POSITIONS, case["prompt"])
    command = [args.program, "record", "--quiet", "--hardware", args.hardware, "--model", folder_of(args.scratch, case)]
    command += [
        "--document",
        os.path.join(args.scratch, "document.txt"),
        "--document-tokens",
        str(case["prompt"] - AROUND),
    ]
    command += [
        "--no-chat-template",
        "--instruction",
        "",
        "--decode",
        str(case["steps"]),
        "--batch-size",
        str(case["batch"]),
        "--padding",
        case.get("padding", "none"),
    ]
    command += [
        "--attention",
        case["attention"],
        "--dtype",
        case["dtype"],
        "--reps",
        "1",
        "--threads",
        str(threads),
        "--fresh",
    ]
    command += ["--layers", ",".join(str(i + 1) for i in range(len(BLOCKS[case["blocks"]])))]
    command += [
        "--positions",
        ",".join(str(-i) for i in range(reach, 0, -1)),
        "--sites",
        ",".join(points_of(family(case["model"]))),
        "--out",
        out,
    ]
    start = time.time()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return out, time.time() - start


def compare(table, phase, site, ours, theirs):
    """Counts values and differing bits by phase and point."""
    import torch

    row = table.setdefault(f"{phase} {site.split('.')[-1]}", {"values": 0, "differ": 0, "first": None})
    theirs = theirs.cpu().contiguous()
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        raise ValueError(f"{phase} {site}: {ours.dtype} {tuple(ours.shape)} and {theirs.dtype} {tuple(theirs.shape)}")
    words = {2: torch.int16, 4: torch.int32}[ours.element_size()]
    differ = ours.contiguous().view(words) != theirs.view(words)
    row["values"] += differ.numel()
    count = int(differ.sum())
    row["differ"] += count
    if count and row["first"] is None:
        at = tuple(differ.nonzero()[0].tolist())
        row["first"] = f"{site} at {list(at)}: {ours[at].item()!r} and {theirs[at].item()!r}"


def stock(model, case, prompt, output, ours):
    """Runs the GPU; the table of what was compared."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from look import Look

    backend = {"sdpa_flash": SDPBackend.FLASH_ATTENTION, "sdpa_math": SDPBackend.MATH}.get(case["attention"])
    forced = sdpa_kernel([backend]) if backend else contextlib.nullcontext()
    sites = [name.removeprefix("prefill/") for name in ours if name.startswith("prefill/") and "logprobs" not in name]
    table, reach = {}, min(POSITIONS, len(prompt))
    turn = [row % len(prompt) for row in range(case["batch"])]
    rows = [prompt[by:] + prompt[:by] for by in turn]
    side, _, hidden = case.get("padding", "none:0").partition(":")
    hidden = int(hidden)
    more, mask = {}, None
    if hidden:
        # Row 0 is padded with token 0; the others go on with their beginning.
        rows = [(row * 66)[: len(row) + hidden] for row in rows]
        blank = [0] * hidden
        rows[0] = blank + prompt if side == "left" else prompt + blank
        mask = torch.ones(len(rows), len(rows[0]), dtype=torch.long, device="cuda")
        mask[0, slice(0, hidden) if side == "left" else slice(len(prompt), None)] = 0
        more = {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)}
    with torch.no_grad(), forced, Look(model, reach) as look:
        look.end = len(prompt) if side == "right" else None
        result = model(torch.tensor(rows, device="cuda"), use_cache=True, **more)
        look.logits(result)
        look.end = None
        if missing := set(sites) ^ set(look.seen):
            raise ValueError(f"one side alone has {sorted(missing)}")
        for site in sites:
            compare(table, "prefill", site, ours["prefill/" + site][0], look.seen[site])
        cache = result.past_key_values
        for step in range(case["steps"]):
            del result
            token = [[(output[step] + 97 * by) % model.config.vocab_size] for by in turn]
            if hidden:
                mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=-1)
                more = {"attention_mask": mask, "position_ids": mask.sum(-1, keepdim=True) - 1}
            result = model(torch.tensor(token, device="cuda"), past_key_values=cache, use_cache=True, **more)
            look.logits(result)
            for site in sites:
                compare(table, "decode", site, ours["decode/" + site][step][-1:], look.seen[site][-1:])
    return table


def gpu(number, pipe):
    """A process of one GPU: takes cases with their predictions, answers with tables."""
    os.environ["CUDA_VISIBLE_DEVICES"] = str(number)
    import torch
    import transformers
    from safetensors.torch import load_file

    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "transformers": transformers.__version__}
    pipe.send(
        versions
        | {"gpu": torch.cuda.get_device_name(), "processors": torch.cuda.get_device_properties(0).multi_processor_count}
    )
    loaded, model = None, None
    while (job := pipe.recv()) is not None:
        case, folder, out = job
        try:
            wanted = (folder, case["dtype"])
            start = time.time()
            implementation = "eager" if case["attention"] == "eager" else "sdpa"
            if loaded != wanted:
                loaded, model = None, None
                gc.collect()
                torch.cuda.empty_cache()
                dtype = {"bf16": torch.bfloat16, "f16": torch.float16}[case["dtype"]]
                model = (
                    transformers.AutoModelForCausalLM.from_pretrained(
                        folder, dtype=dtype, attn_implementation=implementation
                    )
                    .cuda()
                    .eval()
                )
                loaded = wanted
            elif model.config._attn_implementation != implementation:
                model.set_attn_implementation(implementation)
            load = time.time() - start
            run = json.load(open(os.path.join(out, "manifest.json")))["runs"][0]
            tokens = run["mantissa"]
            ours = load_file(os.path.join(out, run["file"]["name"]))
            start = time.time()
            torch.cuda.reset_peak_memory_stats()
            table = stock(model, case, tokens["prompt_token_ids"], tokens["output_token_ids"], ours)
            answer = {
                "signals_digest": tokens["signals_digest"],
                "prompt_tokens": len(tokens["prompt_token_ids"]),
                "table": table,
            }
            answer |= {key: sum(row[key] for row in table.values()) for key in ("values", "differ")}
            answer |= {"seconds_load": round(load, 1), "seconds_gpu": round(time.time() - start, 1)}
            answer["gpu_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 1)
        except torch.cuda.OutOfMemoryError as error:
            answer = {"did_not_fit": str(error).split(". ")[0]}
        except Exception as error:  # reported, and a failure of the proof
            answer = {"failed": f"{type(error).__name__}: {error}"[:500]}
        torch.cuda.empty_cache()
        pipe.send(answer)


class Proof:
    """Cases on their way: waiting for their model, being predicted, ready for a GPU, done."""

    def __init__(self, args, report, cases):
        self.args, self.report = args, report
        self.lock = threading.Condition()
        self.start = time.time()
        done = {entry["number"] for entry in report["cases"]}
        self.waiting = [case for case in cases if case["number"] not in done]
        self.left = collections.Counter(folder_of(args.scratch, case) for case in self.waiting)
        self.ready, self.free, self.made, self.held, self.answered = [], args.cores, {}, {}, 0

    def late(self):
        return time.time() - self.start > self.args.seconds

    def write(self):
        partial = self.args.out + ".partial"
        with open(partial, "w") as file:
            json.dump(self.report, file, indent=0, separators=(",", ":"))
        os.replace(partial, self.args.out)

    def finish(self, case, answer):
        with self.lock:
            self.report["cases"].append({**case, **answer})
            self.write()
            self.answered += 1
            folder = folder_of(self.args.scratch, case)
            self.left[folder] -= 1
            shutil.rmtree(os.path.join(self.args.scratch, f"case-{case['number']}"), ignore_errors=True)
            if not self.left[folder] and not self.args.keep:
                shutil.rmtree(folder, ignore_errors=True)
            result = (
                answer.get("refused")
                or answer.get("failed")
                or answer.get("did_not_fit")
                or f"{answer['differ']} of {answer['values']} differ"
            )
            name = f"{case['model']} {case['attention']} {case['dtype']} batch {case['batch']} prompt {case['prompt']} + {case['steps']}"
            times = ", ".join(f"{key[8:]} {answer[key]} s" for key in answer if key.startswith("seconds_"))
            print(f"[{time.time() - self.start:5.0f} s, {self.answered} done] {name}: {result} ({times})", flush=True)
            self.lock.notify_all()

    def threads(self, case):
        return max(1, min(self.args.cores, 16, round(case["core_seconds"] / 8)))

    def prediction(self):
        """A thread that predicts: the first waiting case for which there are cores."""
        while True:
            with self.lock:
                if self.late() or not self.waiting:
                    return
                case = self.waiting[0]
                threads = self.threads(case)
                if self.free < threads:
                    self.lock.wait(1)
                    continue
                self.waiting.pop(0)
                self.free -= threads
                folder = folder_of(self.args.scratch, case)
                making = self.made.setdefault(folder, threading.Lock())
            answer = None
            try:
                with making:
                    if not os.path.exists(os.path.join(folder, "config.json")):
                        synthesize(self.args, case)
                out, seconds = predict(self.args, case, threads)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                answer = {"refused": str(error)[:500]}
            with self.lock:
                self.free += threads
                if answer is None:
                    self.ready.append((case, out, {"seconds_cpu": round(seconds, 1), "threads": threads}))
                self.lock.notify_all()
            if answer:
                self.finish(case, answer)

    def on_gpu(self, number):
        """A thread that feeds the process of a GPU; cases of the model that it holds go first."""
        context = multiprocessing.get_context("spawn")
        pipe, other = context.Pipe()
        process = context.Process(target=gpu, args=(number, other), daemon=True)
        process.start()
        other.close()
        versions = pipe.recv()
        with self.lock:
            if versions not in self.report["versions"]:
                self.report["versions"].append(versions)
        like = lambda item: (item[0]["model"], item[0]["blocks"], item[0]["dtype"])
        while True:
            with self.lock:
                if not self.ready:
                    if self.predictors_are_done():
                        break
                    self.lock.wait(1)
                    continue
                # The model it holds, else one that no GPU holds, else any.
                rank = lambda item: (
                    0 if like(item) == self.held.get(number) else 2 if like(item) in self.held.values() else 1
                )
                item = min(self.ready, key=rank)
                self.ready.remove(item)
                self.held[number] = like(item)
                case, out, known = item
            try:
                pipe.send((case, folder_of(self.args.scratch, case), out))
                answer = pipe.recv()
            except (EOFError, OSError) as error:
                self.finish(case, {**known, "failed": f"the process of GPU {number} ended: {error}"})
                return
            self.finish(case, {**known, **answer})
        pipe.send(None)
        process.join(10)

    def predictors_are_done(self):
        return not any(thread.is_alive() for thread in self.predictors)

    def run(self):
        count = min(self.args.cores, len(self.waiting))
        self.predictors = [threading.Thread(target=self.prediction, daemon=True) for _ in range(count)]
        gpus = [threading.Thread(target=self.on_gpu, args=(number,), daemon=True) for number in range(self.args.gpus)]
        for thread in self.predictors + gpus:
            thread.start()
        for thread in gpus:
            thread.join()
        self.report["not_reached"] = [case for case in self.waiting] + [case for case, *_ in self.ready]
        self.write()


def summary(report):
    """A table by family, attention, length and dtype; 1 if anything failed."""
    cases = report["cases"]
    good = [case for case in cases if case.get("differ") == 0]
    bad = [case for case in cases if case.get("differ", 0) or "refused" in case or "failed" in case]
    unfit = [case for case in cases if "did_not_fit" in case]
    for title, key in (
        ("family", lambda case: family(case["model"])),
        ("attention", lambda case: case["attention"]),
        ("length", lambda case: case["length"]),
        ("dtype", lambda case: case["dtype"]),
    ):
        print(title)
        for name in sorted({key(case) for case in cases}):
            of = [case for case in cases if key(case) == name]
            values, differ = (sum(case.get(k, 0) for case in of) for k in ("values", "differ"))
            equal = sum(case.get("differ") == 0 for case in of)
            print(f"  {name:14} {equal:4} of {len(of):4} cases equal, {differ} of {values} values differ")
    for case in bad:
        print(
            "FAILED",
            {k: v for k, v in case.items() if k != "table"},
            [f"{k}: {row['differ']}, {row['first']}" for k, row in case.get("table", {}).items() if row["differ"]],
        )
    print(
        f"{len(good)} cases equal to the bit, {len(bad)} failed, {len(unfit)} did not fit, {len(report.get('not_reached', []))} not reached in time"
    )
    return 1 if bad or not good else 0


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("scratch")
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=160)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--most", type=float, default=400.0, help="core seconds of a prediction, by the estimate")
    parser.add_argument("--padded", type=float, default=0.15, help="share of cases with padding, where a mask is known")
    parser.add_argument("--dtype", type=lambda text: text.split(","), default=["bf16", "f16"])
    parser.add_argument(
        "--families", type=lambda text: text.split(","), default=sorted({family(name) for name in MODELS})
    )
    parser.add_argument("--attention", type=lambda text: text.split(","), default=ATTENTIONS)
    parser.add_argument("--prefill", type=float, default=0.0, help="share of cases without a decode step")
    parser.add_argument("--longest", type=int, default=LENGTHS[-1][1], help="tokens of a prompt")
    parser.add_argument(
        "--also",
        nargs="*",
        default=[],
        metavar="MODEL:ATTENTION:DTYPE:PROMPT:BATCH:STEPS",
        help="setups beside those that are drawn",
    )
    parser.add_argument("--keep", action="store_true", help="keep the checkpoints")
    parser.add_argument("--draw-only", action="store_true", help="say what would run")
    args = parser.parse_args()
    args.cores = int(os.environ.get("CORES", os.cpu_count()))
    args.hardware = os.environ.get("HARDWARE", "h200")
    return args


def main():
    args = parsed()
    os.makedirs(os.path.join(args.scratch, "configs"), exist_ok=True)
    for name in MODELS:
        for blocks in BLOCKS if family(name) in ALTERNATE else ["full"]:
            with open(os.path.join(args.scratch, "configs", f"{name}-{blocks}.json"), "w") as file:
                json.dump(cut(name, blocks), file)
    with open(os.path.join(args.scratch, "document.txt"), "w") as file:
        file.write(
            "\n".join(
                f"{(i * 7919) % 10007} measured roundings of word {i} differ from {(i * 31) % 997}."
                for i in range(20000)
            )
        )
    keys = ("seed", "count", "most", "padded", "dtype", "families", "hardware", "also")
    asked = {key: getattr(args, key) for key in keys}
    # Runs that drew all of them do not state it.
    asked |= {"attention": args.attention} if args.attention != ATTENTIONS else {}
    asked |= {"prefill": args.prefill} if args.prefill else {}
    asked |= {"longest": args.longest} if args.longest != LENGTHS[-1][1] else {}
    report = None
    if os.path.exists(args.out):
        report = json.load(open(args.out))
        if report["asked"] != asked:
            raise SystemExit(f"{args.out} is the report of other arguments: {report['asked']}")
    start = time.time()
    if report is None:
        cases, drawn = draw(args)
        report = {"asked": asked, "drawn": drawn, "setups": cases, "versions": [], "cases": []}
    cases = report["setups"]
    # Cases of a model stand together, models in an order by lot.
    order = sorted({(case["model"], case["blocks"]) for case in cases})
    random.Random(args.seed).shuffle(order)
    cases = sorted(cases, key=lambda case: (order.index((case["model"], case["blocks"])), case["dtype"]))
    total = sum(case["core_seconds"] for case in cases)
    gigabytes = sum(Cost({"model": name, "blocks": blocks}).held for name, blocks in order) / 1e9
    print(
        f"{len(cases)} setups of {len(order)} models drawn in {time.time() - start:.0f} s: about {total:.0f} core seconds, {gigabytes:.0f} GB of weights",
        flush=True,
    )
    for line in report["drawn"]["strata_without_setups"]:
        print("  no setup of", line)
    for line, count in list(report["drawn"]["not_taken"].items())[:12]:
        print(f"  {count} drawn and not taken: {line[:200]}")
    if args.draw_only:
        for case in cases:
            print(case)
        return 0
    proof = Proof(args, report, cases)
    proof.write()
    proof.run()
    return summary(report)


if __name__ == "__main__":
    raise SystemExit(main())
