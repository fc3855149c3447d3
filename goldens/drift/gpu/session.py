"""What the three scripts of this folder share: steps that are logged and stop no other, token ids, and tables."""

import contextlib
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
SITES = ["x_in", "q", "k", "v", "attn_out", "x_after_attn", "ffn_norm", "mlp_out", "x_out"]


def prompts(vocabulary=None):
    """`[(prompt, forced tokens)]`: 9, 38 and 120 tokens of English text, and the 16 that follow each."""
    with open(os.path.join(HERE, "tokens.json")) as file:
        found = [(one["prompt"], one["forced"]) for one in json.load(file)]
    if vocabulary is None:
        return found
    # For a tiny model.
    small = lambda ids: [token % (vocabulary - 2) + 1 for token in ids]
    return [(small(prompt), small(forced)) for prompt, forced in found]


def config_of(model):
    with open(os.path.join(model, "config.json")) as file:
        return json.load(file)


def load(model, attention="eager"):
    """The model in bf16, on the GPU if there is one."""
    import torch
    import transformers

    read = transformers.AutoModelForCausalLM.from_pretrained
    causal = read(model, dtype=torch.bfloat16, attn_implementation=attention).eval()
    return causal.cuda() if torch.cuda.is_available() else causal


class Session:
    """Runs steps, logs each to a file, and goes on however it ends."""

    def __init__(self, mantissa, out, name):
        self.mantissa, self.out, self.name = os.path.abspath(mantissa), os.path.abspath(out), name
        os.makedirs(os.path.join(self.out, "logs"), exist_ok=True)
        self.began, self.steps = time.time(), []
        programs = os.path.join(self.out, ".bin")
        os.makedirs(programs, exist_ok=True)
        if not os.path.lexists(os.path.join(programs, "mantissa")):
            os.symlink(self.mantissa, os.path.join(programs, "mantissa"))
        # Digests of weights are the program's.
        os.environ["PATH"] = programs + os.pathsep + os.environ.get("PATH", "")
        paths = [os.path.join(ROOT, "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        sys.path.insert(0, paths[0])

    def step(self, name, command, limit=120, output=None, fine=(0,)):
        """Runs a program. Returns whether it ended well."""
        began, log = time.time(), os.path.join(self.out, "logs", f"{name}.log")
        with open(log, "w") as errors, open(output, "w") if output else contextlib.nullcontext(errors) as words:
            try:
                code = subprocess.run(command, stdout=words, stderr=errors, timeout=limit, check=False).returncode
            except (OSError, subprocess.TimeoutExpired) as error:
                code = f"{type(error).__name__}: {error}"[:200]
        tail = []
        if code not in fine:
            with open(log, errors="replace") as file:
                tail = [line[:300] for line in file.read().splitlines() if line.strip()][-6:]
        self._note(name, code, began, tail)
        return code in fine

    def call(self, name, function, *arguments, **more):
        """Calls a function of this process. Returns what it does, `None` where it failed."""
        import traceback

        began = time.time()
        try:
            found = function(*arguments, **more)
        except Exception as error:
            self._note(name, f"{type(error).__name__}: {error}"[:300], began, traceback.format_exc().splitlines()[-8:])
            return None
        self._note(name, 0, began, [])
        return found

    def drift(self, name, *arguments, markdown=True, limit=120):
        """`mantissa drift`: `NAME.json`, `NAME.md`; its log has the time. Returns the JSON, if there is one."""
        path = os.path.join(self.out, name)
        command = [self.mantissa, "--quiet", "drift", *arguments, "--output", f"{path}.json", "--force"]
        command += ["--format", "markdown"] if markdown else []
        # 1: unexplained, 3: not localized. Both are answers.
        self.step(f"drift-{name}", command, limit, output=f"{path}.md", fine=(0, 1, 3))
        if not os.path.exists(f"{path}.json"):
            return None
        with open(f"{path}.json") as file:
            found = json.load(file)
        sides = [f"{side['setup']}, reproduced {side['reproduced']}" for side in found["sides"]]
        print(f"  {name}: {found['answer']}; {json.dumps(found['counts'])}; {' | '.join(sides)}", flush=True)
        return found

    def _note(self, name, code, began, tail):
        entry = {"step": name, "ended": code, "seconds": round(time.time() - began, 1)}
        self.steps.append(entry | ({"tail": tail} if tail else {}))
        print(json.dumps(self.steps[-1]), flush=True)
        with open(os.path.join(self.out, f"{self.name}.json"), "w") as file:
            json.dump({"seconds": round(time.time() - self.began, 1), "steps": self.steps}, file, indent=1)


def hardware_of(container):
    """The word for the GPU that a container states, `None` for one without recipes."""
    with open(os.path.join(container, "manifest.json")) as file:
        word = json.load(file)["configurations"][0]["hardware"]
    for known in ("h200", "h100"):
        # Of another die, or under a name that is not known: what it is nearest to.
        if word.startswith((known, f"nvidia-{known}")):
            return known
    return None


def by_site(drift):
    """`{(layer, point): counts of differing values, rows, answers}` of a drift's pairs."""
    found = {}
    for pair in drift["pairs"]:
        entry = found.setdefault((pair["layer"], pair["point"]), {"pairs": 0, "rows": 0, "values": 0, "answers": {}})
        entry["pairs"] += 1
        entry["rows"] += bool(pair["differing"])
        entry["values"] += pair["differing"] or 0
        entry["answers"][pair["answer"]] = entry["answers"].get(pair["answer"], 0) + 1
    return found


def table(head, rows):
    """Markdown."""
    line = lambda cells: "| " + " | ".join(str(cell) for cell in cells) + " |"
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)]) + "\n"
