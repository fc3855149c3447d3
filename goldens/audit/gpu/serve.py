"""Servers of vLLM 0.24 on one GPU, and what their API answers: a folder of JSONL per server.

    PYTHONPATH=SITE python3 serve.py run WORK OUT [--session N] [--slots 6] [--limit 420] [--only NAME…]
    python3 serve.py list

WORK has `mantissa` and, when vLLM is unpacked, `site.done`. OUT/NAME/one.jsonl: answers to requests sent one after the
other; OUT/NAME/eight.jsonl: eight at once; each line has the case, the request, and the answer (or the streamed
chunks). OUT/NAME/server.json: flags, environment, what the log says. Each server has its own process group and limit;
one that fails stops no other. OUT/status.txt says what happened; OUT/DONE is written at the end.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
_LLAMA_1B = "--arch llama --preset llama3.1-8b --hidden-size 2048 --intermediate-size 8192 --num-attention-heads 32"
_QWEN_06B = "--arch qwen3 --hidden-size 1024 --intermediate-size 3072 --num-attention-heads 16 --num-key-value-heads 8"
MODELS = {
    "smollm2": "--preset smollm2-135m --num-hidden-layers 4",
    "qwen06b": f"{_QWEN_06B} --head-dim 128 --num-hidden-layers 2 --vocab-size 151936 --max-position-embeddings 40960"
    " --tie-word-embeddings true",
    "llama1b": f"{_LLAMA_1B} --num-key-value-heads 8 --head-dim 64 --num-hidden-layers 3 --tie-word-embeddings true",
    "qwen7b": "--preset qwen2.5-7b --num-hidden-layers 2",
    # A vocabulary that nothing divides.
    "smollm2odd": "--preset smollm2-135m --num-hidden-layers 4 --vocab-size 50257",
}
MODELS |= {
    name + layout: f"{MODELS[name]} --quantization {layout} --dtype bf16"
    for name in ("qwen06b", "llama1b")
    for layout in ("awq", "gptq")
}
# One step of training away: made from the first by sgd.py.
STEPPED = {"smollm2sgd": "smollm2", "qwen06bsgd": "qwen06b"}
VOCABULARY = {"smollm2": 49152, "qwen06b": 151936, "llama1b": 128256, "qwen7b": 152064}
EAGER = ["--enforce-eager", "--no-enable-prefix-caching"]


@dataclasses.dataclass(frozen=True)
class Server:
    name: str
    model: str
    flags: tuple = ()
    env: tuple = ()
    default: bool = False
    seconds: int = 210

    @property
    def base(self):
        return next(name for name in VOCABULARY if self.model.startswith(name))


INVARIANT = (("VLLM_BATCH_INVARIANT", "1"),)
LONG = ("--max-model-len", "4096")
# Two GPUs. NVLink multicast stays off.
TWO = ("--tensor-parallel-size", "2")
GPUS = (("CUDA_VISIBLE_DEVICES", "0,1"), ("VLLM_ALLREDUCE_USE_SYMM_MEM", "0"), ("VLLM_ALLREDUCE_USE_FLASHINFER", "0"))
GPUS += (("NCCL_NVLS_ENABLE", "0"), ("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1"))
SERVERS = [
    Server("smollm2", "smollm2"),
    Server("qwen06b", "qwen06b"),
    Server("smollm2-invariant", "smollm2", env=INVARIANT),
    Server("smollm2-sgd", "smollm2sgd"),
    Server("qwen06b-fp8", "qwen06b", ("--quantization", "fp8")),
    Server("llama1b", "llama1b"),
    Server("smollm2-v1", "smollm2", env=(("VLLM_USE_V2_MODEL_RUNNER", "0"),)),
    Server("smollm2-default", "smollm2", default=True, seconds=260),
    Server("qwen06b-awq", "qwen06bawq"),
    Server("qwen06b-gptq", "qwen06bgptq"),
    Server("qwen06b-invariant", "qwen06b", env=INVARIANT),
    Server("qwen7b", "qwen7b"),
    Server("qwen06b-default", "qwen06b", default=True, seconds=260),
    Server("qwen06b-sgd", "qwen06bsgd"),
    Server("smollm2-sgd-default", "smollm2sgd", default=True, seconds=260),
    Server("llama1b-awq", "llama1bawq"),
    Server("llama1b-fp8", "llama1b", ("--quantization", "fp8")),
    Server("smollm2-fp8-default", "smollm2", ("--quantization", "fp8"), default=True, seconds=260),
    Server("smollm2-invariant-default", "smollm2", env=INVARIANT, default=True, seconds=260),
    Server("llama1b-invariant", "llama1b", env=INVARIANT),
    Server("qwen06b-awq-default", "qwen06bawq", default=True, seconds=260),
    Server("smollm2-triton", "smollm2", ("--attention-backend", "TRITON_ATTN")),
    # Requests whose beginnings were computed for an earlier one.
    Server("smollm2-prefix", "smollm2", ("--enable-prefix-caching",)),
    Server("smollm2-processed", "smollm2", ("--logprobs-mode", "processed_logprobs")),
    Server("smollm2-kv8", "smollm2", ("--kv-cache-dtype", "fp8")),
    # The later one counts.
    Server("smollm2-f16", "smollm2", ("--dtype", "float16")),
    Server("qwen06b-awq-f16", "qwen06bawq", ("--dtype", "float16")),
    Server("smollm2-f16-v1", "smollm2", ("--dtype", "float16"), env=(("VLLM_USE_V2_MODEL_RUNNER", "0"),)),
    Server("qwen7b-f16", "qwen7b", ("--dtype", "float16")),
    Server("smollm2odd", "smollm2odd"),
    Server("smollm2odd-v1", "smollm2odd", env=(("VLLM_USE_V2_MODEL_RUNNER", "0"),)),
    Server("smollm2odd-f16-v1", "smollm2odd", ("--dtype", "float16"), env=(("VLLM_USE_V2_MODEL_RUNNER", "0"),)),
    Server("qwen06b-tp2", "qwen06b", TWO, env=GPUS),
    Server("llama1b-tp2", "llama1b", TWO, env=GPUS),
    Server("qwen06b-awq-tp2", "qwen06bawq", TWO, env=GPUS),
    # Prompts of more positions than runner V2 multiplies at once.
    Server("smollm2-long", "smollm2", LONG),
    Server("qwen06b-long", "qwen06b", LONG),
    Server("smollm2-long-v1", "smollm2", LONG, env=(("VLLM_USE_V2_MODEL_RUNNER", "0"),)),
    # Once more, to be held beside itself.
    Server("smollm2-default-again", "smollm2", default=True, seconds=260),
    Server("qwen06b-awq-marlin", "qwen06bawq", env=(("VLLM_DISABLED_KERNELS", "MacheteLinearKernel"),)),
]
BY_NAME = {server.name: server for server in SERVERS}
TOKENS = 16


def ids(session, server, case, row, length):
    drawn = random.Random(f"audit {session} {server.name} {case} {row}")
    return [drawn.randrange(600, VOCABULARY[server.base]) for _ in range(length)]


WORDS = "river stone paper light engine winter garden music bread silver horse letter window salt cloud number".split()


def words(session, server, case, row, count):
    drawn = random.Random(f"audit {session} {server.name} {case} {row}")
    return " ".join(drawn.choice(WORDS) for _ in range(count)).capitalize() + "."


def requests(session, server):
    """(case, path, body) of requests that are sent one after the other."""
    more = {"max_tokens": TOKENS, "ignore_eos": True, "logprobs": 20}
    whole = more | {"return_token_ids": True, "return_tokens_as_token_ids": True}
    out = []
    for row, length in enumerate((32, 47)):
        out.append(("greedy", whole | {"prompt": ids(session, server, "greedy", row, length), "temperature": 0}))
    for row, length in enumerate((100, 133)):
        prompt = ids(session, server, "sampled", row, length)
        out.append(("sampled", whole | {"prompt": prompt, "temperature": 0.8, "seed": 7 + row}))
    for row, length in enumerate((333, 40)):
        prompt = ids(session, server, "streamed", row, length)
        out.append(("streamed", whole | {"prompt": prompt, "temperature": 0, "stream": True}))
    prompt = ids(session, server, "prompt", 0, 41)
    out.append(("prompt", whole | {"prompt": prompt, "temperature": 0, "prompt_logprobs": 20, "max_tokens": 4}))
    # A prompt's own log-probabilities, in both ways to ask for them.
    prompt = ids(session, server, "prompt-long", 0, 333)
    out.append(("prompt-long", whole | {"prompt": prompt, "temperature": 0, "prompt_logprobs": 20, "max_tokens": 2}))
    prompt = ids(session, server, "echo", 0, 50)
    out.append(("echo", whole | {"prompt": prompt, "temperature": 0, "echo": True, "max_tokens": 4}))
    if LONG[0] in server.flags:
        prompt = ids(session, server, "prompt-2000", 0, 2000)
        whole_prompt = whole | {"temperature": 0, "prompt_logprobs": 20, "max_tokens": 2}
        out.append(("prompt-2000", whole_prompt | {"prompt": prompt}))
    out = [(case, "/v1/completions", body) for case, body in out]
    if server.base == "smollm2":
        text = words(session, server, "text", 0, 30)
        out.append(("text", "/v1/completions", more | {"prompt": text, "temperature": 0}))
        for row, stream in enumerate((False, True)):
            talk = [{"role": "user", "content": words(session, server, "chat", row, 25)}]
            body = {"messages": talk, "max_tokens": TOKENS, "ignore_eos": True, "logprobs": True, "top_logprobs": 20}
            body |= {"temperature": 0.7 if row else 0, "seed": 3, "return_token_ids": True, "stream": stream}
            out.append(("chat", "/v1/chat/completions", body))
        talk = [{"role": "user", "content": words(session, server, "chat-text", 0, 20)}]
        body = {"messages": talk, "max_tokens": TOKENS, "ignore_eos": True, "logprobs": True, "top_logprobs": 20}
        out.append(("chat-text", "/v1/chat/completions", body | {"temperature": 0}))
        talk = [{"role": "user", "content": words(session, server, "chat-prompt", 0, 30)}]
        more = {"return_token_ids": True, "prompt_logprobs": 20, "temperature": 0}
        out.append(("chat-prompt", "/v1/chat/completions", body | more | {"messages": talk}))
    return out


def crowd(session, server, round):
    """Eight requests at once."""
    whole = {"max_tokens": TOKENS, "ignore_eos": True, "logprobs": 20, "temperature": 0}
    whole |= {"return_token_ids": True, "return_tokens_as_token_ids": True}
    lengths = (32, 47, 100, 133, 333, 40, 64, 200)
    return [
        (f"eight-{round}", "/v1/completions", whole | {"prompt": ids(session, server, f"eight{round}", row, length)})
        for row, length in enumerate(lengths)
    ]


def asked(port, path, body, seconds=60):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    raw = answer.read().decode()
    connection.close()
    if answer.status != 200:
        return {"status": answer.status, "error": raw[:2000]}
    if body.get("stream"):
        lines = [line[6:] for line in raw.split("\n") if line.startswith("data: ")]
        return {"status": 200, "chunks": [json.loads(line) for line in lines if line.strip() != "[DONE]"]}
    return {"status": 200, "response": json.loads(raw)}


def written(file, case, path, body, answer, began):
    line = {"case": case, "path": path, "request": body, "seconds": round(time.time() - began, 3), **answer}
    file.write(json.dumps(line, separators=(",", ":")) + "\n")
    file.flush()


class Runner:
    def __init__(self, given):
        self.given, self.began, self.lock = given, time.time(), threading.Lock()
        self.work, self.out = os.path.abspath(given.work), os.path.abspath(given.out)
        os.makedirs(self.out, exist_ok=True)
        self.models = os.path.join(self.work, "serve-models")
        os.makedirs(self.models, exist_ok=True)
        self.made = {}

    def say(self, text):
        line = f"{time.strftime('%T')} {time.time() - self.began:6.1f} s  {text}"
        with self.lock:
            print(line, flush=True)
            with open(os.path.join(self.out, "status.txt"), "a") as file:
                file.write(line + "\n")

    def left(self):
        return self.given.limit - (time.time() - self.began)

    def environment(self):
        site = os.path.join(self.work, "site")
        paths = [os.path.join(self.work, "serve-site"), site, *filter(None, [os.environ.get("PYTHONPATH")])]
        return os.environ | {
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(os.pathsep.join(paths).split(os.pathsep))),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_USE_FLASHINFER_SAMPLER": "0",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": "2",
            "TRITON_CACHE_DIR": os.path.join(self.work, "triton"),
            "PYTHONUNBUFFERED": "1",
        }

    def make(self, name):
        """A model's folder, once."""
        folder = os.path.join(self.models, name)
        if os.path.exists(os.path.join(folder, "config.json")):
            return
        log = open(os.path.join(self.out, f"synth-{name}.log"), "w")
        if name in STEPPED:
            self.made[STEPPED[name]].result()
            command = [sys.executable, os.path.join(HERE, "sgd.py"), os.path.join(self.models, STEPPED[name]), folder]
            command.append(os.path.join(self.out, f"{name}.npz"))
        else:
            program = os.path.join(self.work, "mantissa")
            command = [program, "--quiet", "synth", *MODELS[name].split(), "--seed", "17", "--out", folder]
        code = subprocess.run(command, stdout=log, stderr=log, env=self.environment(), timeout=150).returncode
        if name == "smollm2" and code == 0:
            source = os.path.join(HERE, "tokenizer")
            for file in os.listdir(source):
                with open(os.path.join(source, file), "rb") as old, open(os.path.join(folder, file), "wb") as new:
                    new.write(old.read())
        self.say(f"model {name}: {code}")
        if code:
            raise RuntimeError(f"model {name}")

    def command(self, server, port, more):
        words = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", os.path.join(self.models, server.model)]
        words += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16", "--seed", "0"]
        words += ["--max-model-len", "1024", "--max-num-seqs", "64", "--served-model-name", server.base]
        words += ["--gpu-memory-utilization", "0.05", "--kv-cache-memory-bytes", str(1 << 30)]
        words += ["--generation-config", "vllm"]
        return words + ([] if server.default else EAGER) + list(server.flags) + list(more)

    def served(self, server):
        try:
            self.made[server.model].result()
            while not os.path.exists(os.path.join(self.work, "site.done")):
                if self.left() < 60:
                    return self.say(f"{server.name}: vLLM never came")
                time.sleep(0.5)
            if self.left() < 45:
                return self.say(f"{server.name}: no time is left")
            if not self.tried(server, []) and self.left() > 60:
                self.tried(server, ["--skip-tokenizer-init"])
        except Exception as error:
            self.say(f"{server.name}: {type(error).__name__}: {error}"[:400])

    def tried(self, server, more):
        folder = os.path.join(self.out, server.name)
        os.makedirs(folder, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = self.command(server, port, more)
        environment = self.environment() | dict(server.env)
        environment["VLLM_CACHE_ROOT"] = os.path.join(self.work, "vllm-cache", server.name)
        path = os.path.join(folder, "log.txt")
        self.say(f"{server.name} starts" + (f" with {more}" if more else ""))
        began = time.time()
        with open(path, "a") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        note = {"flags": command[4:], "env": dict(server.env), "started": None}
        try:
            end = began + min(server.seconds, self.left() - 5)
            while not self.healthy(port):
                if process.poll() is not None or time.time() > end:
                    self.say(f"{server.name} did not come up: {process.poll()}, {time.time() - began:.1f} s")
                    return True
                time.sleep(0.3)
            note["started"] = round(time.time() - began, 1)
            good = self.answers(server, port, folder, end)
            self.say(f"{server.name}: up after {note['started']} s, ended {time.time() - began:.1f} s, {good} answers")
            return good > 0
        finally:
            for sign in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
            with open(path, errors="replace") as log:
                text = log.read()
            words = r"[Mm]odel [Rr]unner|attention backend|FLASH|backend|kernel|compil|graph|invarian|Error|quant"
            note["log"] = [line[:400] for line in text.split("\n") if re.search(words, line)][:120]
            with open(os.path.join(folder, "server.json"), "w") as file:
                json.dump(note, file, indent=1)

    @staticmethod
    def healthy(port):
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        return False

    def answers(self, server, port, folder, end):
        good, session = 0, self.given.session
        warm = {"prompt": [5, 6, 7], "max_tokens": 2, "temperature": 0, "ignore_eos": True, "logprobs": 1}
        warm |= {"return_tokens_as_token_ids": True}
        first = asked(port, "/v1/completions", warm)
        if first["status"] != 200:
            self.say(f"{server.name}: {first['error'][:300]}")
            return 0
        with open(os.path.join(folder, "one.jsonl"), "a") as file:
            for case, path, body in requests(session, server):
                began = time.time()
                try:
                    answer = asked(port, path, body | {"model": server.base})
                except Exception as error:
                    answer = {"status": 0, "error": f"{type(error).__name__}: {error}"}
                if answer["status"] != 200:
                    self.say(f"{server.name} {case}: {answer['error'][:200]}")
                good += answer["status"] == 200
                written(file, case, path, body, answer, began)
                if time.time() > end:
                    return good
        with open(os.path.join(folder, "eight.jsonl"), "a") as file:
            for round in range(2):
                sent = crowd(session, server, round)
                began = time.time()
                with concurrent.futures.ThreadPoolExecutor(8) as pool:
                    jobs = [pool.submit(asked, port, path, body | {"model": server.base}) for _, path, body in sent]
                    for (case, path, body), job in zip(sent, jobs):
                        try:
                            answer = job.result()
                        except Exception as error:
                            answer = {"status": 0, "error": f"{type(error).__name__}: {error}"}
                        good += answer["status"] == 200
                        written(file, case, path, body, answer, began)
        return good

    def run(self):
        wanted = [BY_NAME[name] for name in self.given.only] if self.given.only else SERVERS
        models = dict.fromkeys(server.model for server in wanted)
        for name in list(models):
            if name in STEPPED:
                models = {STEPPED[name]: None} | models
        with concurrent.futures.ThreadPoolExecutor(4) as making, \
                concurrent.futures.ThreadPoolExecutor(4) as stepping, \
                concurrent.futures.ThreadPoolExecutor(self.given.slots) as serving:
            for name in models:
                if name not in STEPPED:
                    self.made[name] = making.submit(self.make, name)
            for name in models:
                if name in STEPPED:
                    self.made[name] = stepping.submit(self.make, name)
            jobs = []
            for server in wanted:
                jobs.append(serving.submit(self.served, server))
            concurrent.futures.wait(jobs)
        self.say("all ended")
        with open(os.path.join(self.out, "DONE"), "w"):
            pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list")
    run = verbs.add_parser("run")
    run.add_argument("work")
    run.add_argument("out")
    run.add_argument("--session", type=int, default=1)
    run.add_argument("--slots", type=int, default=6)
    run.add_argument("--limit", type=int, default=420)
    run.add_argument("--only", nargs="*", choices=sorted(BY_NAME))
    given = parser.parse_args()
    if given.verb == "list":
        for server in SERVERS:
            print(server)
        return
    Runner(given).run()


if __name__ == "__main__":
    main()
