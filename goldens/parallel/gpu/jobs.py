"""Runs the jobs of plan.py over two GPUs, packs what they leave, and hands it out in pieces.

    python3 jobs.py run WORK MANTISSA [--only NAME…] [--tiny] [--fake] [--gpus 2]
    python3 jobs.py collect WORK OUT [--bytes 64000000]

`run` makes the models, then starts every job that its model (and vLLM: WORK/site.done) is there for, in order of
priority, several on a GPU; a job that fails or outlasts its limit stops no other. Each container is packed as soon as
it is whole: WORK/packed/JOB--CELL.tar.xz. WORK/status.txt says what happened, WORK/logs has logs (NCCL's too), and at
the end WORK/jobs.done is there. `collect` puts what was not yet handed out into at most 4 files of less than 16 MiB,
first what comes first in the plan, and logs.tar.xz.

`--fake` takes the fake vLLM of the package's tests and `--tiny` tiny models, to try it on a CPU.
"""

import argparse
import concurrent.futures
import contextlib
import io
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import time

import plan

SLOTS, PAIRS = 4, 2
BUNDLE, BUNDLES = 16_200_000, 4
# Words of two bytes.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 3, "lp": 1, "pb": 1}]


class Runner:
    def __init__(self, given):
        self.work, self.given = os.path.abspath(given.work), given
        for name in ("out", "logs", "packed", "models", "bin"):
            os.makedirs(os.path.join(self.work, name), exist_ok=True)
        program = os.path.join(self.work, "bin", "mantissa")
        if not os.path.lexists(program):
            os.symlink(os.path.abspath(given.mantissa), program)
        # Digests of weights are the program's.
        os.environ["PATH"] = os.path.dirname(program) + os.pathsep + os.environ["PATH"]
        self.slots, self.pairs, self.port, self.began = [SLOTS] * given.gpus, PAIRS, 29700, time.time()
        # Quantized models are asked for by name: some need bitsandbytes.
        of_all = lambda job: not job.model.removesuffix("f16").endswith((*plan.QUANTIZED, *plan.PACKED))
        self.waiting = [job for job in plan.JOBS if (job.name in given.only if given.only else of_all(job))]
        self.running, self.making, self.made, self.seen = [], {}, set(), set()
        self.pool, self.packing = concurrent.futures.ThreadPoolExecutor(6), []

    def say(self, text):
        line = f"{time.strftime('%T')} {time.time() - self.began:6.1f} s  {text}"
        print(line, flush=True)
        with open(os.path.join(self.work, "status.txt"), "a") as file:
            file.write(line + "\n")

    def models(self):
        """All at once, in the order in which jobs ask for them."""
        for name in dict.fromkeys(job.model for job in self.waiting if job.model):
            program = os.path.join(self.work, "bin", "mantissa")
            command = [program, "--quiet", *plan.synth(name, self.given.tiny), "--out", self.model(name)]
            with open(os.path.join(self.work, "logs", f"synth-{name}.log"), "w") as log:
                self.making[name] = subprocess.Popen(command, stdout=log, stderr=log)
        self.made.add("")

    def model(self, name):
        return os.path.join(self.work, "models", name)

    def command(self, job, port):
        script = {"transformers": "transformers_ranks.py", "vllm": "vllm_ranks.py"}.get(job.engine, "collectives.py")
        words = [os.path.join(plan.HERE, script)]
        if job.model:
            words += [job.name, self.model(job.model), os.path.join(self.work, "out", job.name)]
        if job.engine == "vllm" and self.given.fake:
            # It writes a configuration of its own.
            words[2] += "-fake"
            words.append("--fake")
        elif job.engine == "vllm-collectives":
            words.append("--vllm")
        if job.engine != "vllm" and job.ranks > 1:
            launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(job.ranks), "--master-port", str(port)]
            words = [*launch, *words]
        return [sys.executable, *words]

    def place(self, job):
        """GPUs for a job; `None` while there are none, or what it needs is not there yet."""
        if job.model not in self.made:
            return None
        if job.needs_vllm and not self.given.fake and not os.path.exists(os.path.join(self.work, "site.done")):
            return None
        if job.ranks > 1:
            free = self.pairs and all(self.slots)
            return list(range(job.ranks)) if free else None
        best = max(range(len(self.slots)), key=lambda gpu: self.slots[gpu])
        return [best] if self.slots[best] else None

    def start(self, job, gpus):
        for gpu in gpus:
            self.slots[gpu] -= 1
        self.pairs -= len(gpus) > 1
        self.port += 1
        logs = os.path.join(self.work, "logs", job.name)
        environment = os.environ | {
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus)),
            "NCCL_DEBUG": "INFO",
            "NCCL_DEBUG_SUBSYS": "INIT,ENV,GRAPH,TUNING",
            "NCCL_DEBUG_FILE": f"{logs}.nccl.%p",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "6"),
        }
        site = "site" if job.needs_vllm else "site-blake3"
        paths = [os.path.join(self.work, site), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        with open(f"{logs}.log", "w") as log:
            process = subprocess.Popen(
                self.command(job, self.port), stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self.running.append((job, gpus, process, time.time()))
        self.say(f"{job.name} begins on {gpus}")

    def look(self):
        for name, process in list(self.making.items()):
            if process.poll() is not None:
                del self.making[name]
                self.made.add(name)
                self.say(f"model {name}: {process.returncode}")
        for entry in list(self.running):
            job, gpus, process, began = entry
            late = time.time() - began > job.seconds
            if process.poll() is None and not late:
                continue
            self.stop(process)
            self.running.remove(entry)
            for gpu in gpus:
                self.slots[gpu] += 1
            self.pairs += len(gpus) > 1
            self.say(f"{job.name} ended: {'too late' if late else process.returncode}, {time.time() - began:.1f} s")
        self.pack()

    @staticmethod
    def stop(process):
        """Ends what is left of a job. Ranks are torchrun's to end: they have sessions of their own."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(8)

    def pack(self):
        for job in plan.JOBS:
            for cell in job.cells if job.model else ():
                name = f"{job.name}--{cell}"
                folder = os.path.join(self.work, "out", job.name, cell)
                if name not in self.seen and os.path.exists(os.path.join(folder, "manifest.json")):
                    self.seen.add(name)
                    self.packing.append(self.pool.submit(self.packed, name, job.name, cell))

    def packed(self, name, job, cell):
        path = os.path.join(self.work, "packed", f"{name}.tar.xz")
        with lzma.open(f"{path}.part", "wb", filters=FILTERS) as file, tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(os.path.join(self.work, "out", job, cell), f"{job}/{cell}")
        os.rename(f"{path}.part", path)

    def run(self):
        self.models()
        while self.waiting or self.running:
            self.look()
            for job in list(self.waiting):
                gpus = self.place(job)
                if gpus is not None:
                    self.waiting.remove(job)
                    self.start(job, gpus)
            time.sleep(0.2)
        self.look()
        for one in self.packing:
            if one.exception():
                self.say(f"packing: {one.exception()}")
        self.say("all ended")
        with open(os.path.join(self.work, "jobs.done"), "w"):
            pass


def collect(given):
    packed, sent_path = os.path.join(given.work, "packed"), os.path.join(given.work, "sent.txt")
    sent = set()
    if os.path.exists(sent_path):
        with open(sent_path) as file:
            sent = set(file.read().split())
    os.makedirs(given.out, exist_ok=True)
    logs = io.BytesIO()
    with lzma.open(logs, "wb", preset=6) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("status.txt", "logs", "background.log", "topology.txt"):
            if os.path.exists(os.path.join(given.work, name)):
                tar.add(os.path.join(given.work, name), name)
        for job in plan.JOBS:
            if os.path.exists(path := os.path.join(given.work, "out", job.name, "job.json")):
                tar.add(path, f"{job.name}.json")
    with open(os.path.join(given.out, "logs.tar.xz"), "wb") as file:
        file.write(logs.getvalue())
    room, bundles, left = given.bytes - len(logs.getvalue()), [[] for _ in range(BUNDLES)], 0
    sizes = [10240] * BUNDLES
    for job in plan.JOBS:
        for cell in job.cells if job.model else ():
            name = f"{job.name}--{cell}.tar.xz"
            path = os.path.join(packed, name)
            if name in sent or not os.path.exists(path):
                continue
            size = os.path.getsize(path) + 1536
            place = next((i for i in range(BUNDLES) if sizes[i] + size <= BUNDLE), None)
            if place is None or sum(sizes) + size > room:
                left += 1
                continue
            bundles[place].append(name)
            sizes[place] += size
    number = len([name for name in os.listdir(given.work) if name.startswith("collected.")])
    with open(os.path.join(given.work, f"collected.{number}"), "w"), open(sent_path, "a") as file:
        for place, names in enumerate(bundles):
            if names:
                with tarfile.open(os.path.join(given.out, f"b{number}-{place}.tar"), "w") as tar:
                    for name in names:
                        tar.add(os.path.join(packed, name), name)
                file.write("".join(f"{name}\n" for name in names))
    done = os.path.exists(os.path.join(given.work, "jobs.done"))
    print(f"handed out {sum(map(len, bundles))} containers, {sum(sizes) // 1000} kB; {left} more are packed")
    print(f"logs {len(logs.getvalue())} bytes; jobs {'ended' if done else 'go on'}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run")
    run.add_argument("work")
    run.add_argument("mantissa")
    run.add_argument("--only", nargs="*", choices=sorted(plan.BY_NAME))
    run.add_argument("--tiny", action="store_true")
    run.add_argument("--fake", action="store_true")
    run.add_argument("--gpus", type=int, default=2)
    out = verbs.add_parser("collect")
    out.add_argument("work")
    out.add_argument("out")
    out.add_argument("--bytes", type=int, default=64_000_000)
    given = parser.parse_args()
    Runner(given).run() if given.verb == "run" else collect(given)


if __name__ == "__main__":
    main()
