"""`record`: as `mantissa record`; the program reads what it leaves; kill -9 and resumption; published schemas."""

import filecmp
import json
import os
import re
import signal
import subprocess
import sys
import unittest

from . import support
from mantissa_forensics import CaptureError, record
from mantissa_forensics.container import read
from mantissa_forensics.prompts import cut

DOCUMENT = "\n".join(f"{(i * 7919) % 10007} roundings differ from {(i * 31) % 997}." for i in range(400))


def document():
    path = support.new("document.txt")
    with open(path, "w") as file:
        file.write(DOCUMENT)
    return path


class Program(unittest.TestCase):
    """`mantissa` takes captures without a flag."""

    @classmethod
    def setUpClass(cls):
        cls.model = support.load("llama", "bf16")
        cls.out = support.new("capture")
        prompts = [support.ids(12), support.ids(12, 1), support.ids(12, 2), support.ids(9, 3)]
        cls.result = record(
            cls.model, prompts, cls.out, batch_size=[1, 2], decode=3, repetitions=2, layers="all", sites="all"
        )

    def test_inspect(self):
        shown = support.run_json("inspect", self.out)
        self.assertEqual(shown["digests"], {"state": "ok", "files": 8, "runs": 8})
        text = support.run("inspect", self.out)
        for words in ("attention=eager", "torch=", "device", "identical to the bit", "every tensor in memory is that"):
            self.assertIn(words, text)

    def test_weights_digest_is_the_checkpoints(self):
        stated = support.run_json("inspect", support.folder("llama", "bf16"), "--digest")["digest"]["digest"]
        metadata, configurations, _ = read(self.out)
        self.assertEqual(metadata["mantissa"]["weights_digest"], stated)
        self.assertEqual(configurations[0]["mantissa"]["setup"]["model"]["weights_digest"], stated)

    def test_json_and_back_is_lossless(self):
        there, back = support.new("there.json"), support.new("back")
        support.run("convert", self.out, there)
        support.run("convert", there, back)
        for name in os.listdir(self.out):
            if name.startswith("run-"):
                self.assertEqual(
                    read_tensors(os.path.join(self.out, name)), read_tensors(os.path.join(back, name)), name
                )
        a, b = (manifest(path) for path in (self.out, back))
        for run in a["runs"] + b["runs"]:
            run.pop("file")
        self.assertEqual(a, b)

    def test_published_schemas(self):
        try:
            import jsonschema  # noqa: F401
        except ImportError:
            self.skipTest("jsonschema is not installed")
        done = subprocess.run(
            [sys.executable, os.path.join(support.ROOT, "docs/format/validate.py"), self.out],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(done.stdout.count(" valid"), 2, done.stdout)

    def test_compare_and_analyze(self):
        # Whether batch sizes leave other bits is the processor's business, and no error of the program.
        support.run("compare", self.out, self.out, code=(0, 1))
        support.run("analyze", self.out, code=(0, 1, 3))

    def test_verify_says_that_there_are_no_recipes_of_this_hardware(self):
        shown = support.run("verify", self.out, "--model", support.folder("llama", "bf16"), code=3)
        self.assertIn("there are no recipes for hardware 'torch-cpu'", shown)

    def test_verify_names_an_axis_that_it_has_no_recipes_for(self):
        out = support.new("static")
        more = {"decode": 2, "repetitions": 1, "hardware": "h200", "cache": "static"}
        record(self.model, [support.ids(12)], out, **more)
        shown = support.run("verify", out, "--model", support.folder("llama", "bf16"), code=3)
        self.assertIn("there are no recipes for cache 'static'", shown)

    def test_text_is_kept_only_if_wanted(self):
        tokenizer = tokenizer_of("llama")
        for keep in (True, False):
            out = support.new("text")
            more = {"decode": 2, "repetitions": 1, "tokenizer": tokenizer, "keep_text": keep}
            record(self.model, [support.ids(12)], out, **more)
            [run] = read(out)[2]
            self.assertEqual(bool(run.prompt_text), keep)
            self.assertEqual(len(run.output_texts), 2 if keep else 0)
            self.assertEqual(run.prompt, support.ids(12))

    def test_kernels_by_name_from_one_more_pass(self):
        out = support.new("profiled")
        record(self.model, [support.ids(12)], out, decode=2, repetitions=2, profile=True)
        _, [configuration], [run] = read(out)
        kernels = {k["name"]: k["launches"] for k in configuration["mantissa"]["observed"]["kernels"]}
        # On a CPU its operators; the pass is no repetition.
        self.assertGreaterEqual(kernels["aten::embedding"], 2)
        self.assertIn("aten::mm", kernels)
        self.assertEqual((run.rep, configuration["mantissa"]["reproducibility"]["repetitions"]), (1, 2))
        self.assertIn("kernel", support.run("inspect", out))

    def test_forced_tokens(self):
        out, forced = support.new("forced"), [9, 8, 7]
        record(self.model, [support.ids(12)], out, forced=forced, decode=3, repetitions=2)
        _, [configuration], [run] = read(out)
        self.assertEqual(run.output, forced)
        self.assertEqual(configuration["mantissa"]["setup"]["decoding"], "teacher_forced")


def manifest(path):
    with open(os.path.join(path, "manifest.json")) as file:
        return json.load(file)


def tokenizer_of(family):
    import transformers

    return transformers.AutoTokenizer.from_pretrained(support.folder(family, "f32"))


def read_tensors(path):
    from mantissa_forensics.container import _bits

    return {name: (bits.shape, bits.tobytes()) for name, bits in _bits(path).items()}


class SideBySide(unittest.TestCase):
    """transformers in binary32 on a CPU beside Mantissa's own engine, every family: the same prompts, near numbers."""

    def test_a_capture_and_a_record_of_the_same_model(self):
        path = document()
        for family in support.FAMILIES:
            with self.subTest(family=family):
                ours, theirs = support.new("ours"), support.new("theirs")
                support.run(
                    *("--quiet", "record", "--model", support.folder(family, "f32"), "--document", path, "--out", ours),
                    *("--document-tokens", 24, "--no-chat-template", "--decode", 4, "--dtype", "f32", "--reps", 1),
                )
                tokenizer = tokenizer_of(family)
                prompts = cut(tokenizer, [path], tokens=24, chat_template=False)
                [own] = read(ours)[2]
                self.assertEqual(prompts.references[0].ids, own.prompt, "the prompt is cut by the same rules")
                self.assertEqual(prompts.references[0].source, own.source)
                model = support.load(family, "f32")
                record(model, prompts, theirs, decode=4, repetitions=2, tokenizer=tokenizer, forced=own.output)
                compared = support.run("compare", ours, theirs, code=1)
                self.assertIn("ours: cpu_bs1_eager_f32 rep 0 · theirs: torch-cpu_bs1_eager_f32 rep 1", compared)
                self.assertRegex(compared, r"tokens +the same\n")
                self.assertIn("0 missing, 0 incomparable", compared)
                # Every site is near: another site's values would not be.
                cosines = re.findall(r"^  (?:prefill|decode) +(?!logprobs)\S+ .* (\S+)$", compared, re.M)
                self.assertEqual(set(cosines), {"1.00000"}, compared)
                self.assertGreaterEqual(len(cosines), 14)
                [run] = read(theirs)[2]
                self.assertEqual(set(run.phases["decode"].tensors), set(own.phases["decode"].tensors))
                self.assertEqual(run.prompt_text, own.prompt_text)

    def test_chat_template(self):
        path, ours = document(), support.new("ours")
        support.run(
            *("--quiet", "record", "--model", support.folder("llama", "f32"), "--document", path, "--out", ours),
            *(
                "--document-tokens",
                16,
                "--decode",
                1,
                "--reps",
                1,
                "--batch-size",
                3,
                "--references",
                2,
                "--dtype",
                "f32",
            ),
        )
        prompts = cut(tokenizer_of("llama"), [path], tokens=16, references=2, neighbours=2)
        for reference, run in enumerate(read(ours)[2]):
            self.assertEqual(prompts.references[reference].ids, run.prompt)
            self.assertEqual([p.ids for p in prompts.neighbours[reference]], [n.prompt for n in run.neighbours])


SCRIPT = """
import sys
sys.path.insert(0, {python!r})
import torch
from tests import support
from mantissa_forensics import record
model = support.load("llama", "bf16")
record(model, [support.ids(40), support.ids(40, 1)], sys.argv[1], batch_size=2, decode=6, repetitions=3,
       progress=lambda text: print(text, flush=True))
"""


class Resume(unittest.TestCase):
    def start(self, out):
        script = SCRIPT.format(python=os.path.join(support.ROOT, "python"))
        return subprocess.Popen([sys.executable, "-c", script, out], stdout=subprocess.PIPE, text=True)

    def test_kill_9_and_resume_leave_the_same_bytes(self):
        whole, killed = support.new("whole"), support.new("killed")
        self.assertEqual(self.start(whole).wait(), 0)
        process = self.start(killed)
        for line in process.stdout:
            if line.startswith("3 of 6"):
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
        self.assertFalse(os.path.exists(os.path.join(killed, "manifest.json")))
        left = [n for n in os.listdir(os.path.join(killed, ".unfinished"))]
        self.assertGreaterEqual(len(left), 2)
        # What a write that was cut short leaves.
        with open(os.path.join(killed, ".mantissa-half"), "w") as file:
            file.write("half")
        model = support.load("llama", "bf16")
        again = lambda out: record(
            model, [support.ids(40), support.ids(40, 1)], out, batch_size=2, decode=6, repetitions=3
        )
        result = again(killed)
        self.assertGreaterEqual(result["resumed"], 2)
        names = sorted(n for n in os.listdir(whole) if n != "timing.json")
        self.assertEqual(names, sorted(n for n in os.listdir(killed) if n != "timing.json"))
        _, other, wrong = filecmp.cmpfiles(whole, killed, [n for n in names if not n.startswith(".")], shallow=False)
        self.assertEqual((other, wrong), ([], []))
        # A finished record is found, another one refused.
        self.assertTrue(again(killed)["existed"])
        with self.assertRaisesRegex(CaptureError, "holds another record \\(other decode\\)"):
            record(model, [support.ids(40), support.ids(40, 1)], killed, batch_size=2, decode=5, repetitions=3)
        with self.assertRaisesRegex(CaptureError, "holds something else"):
            record(model, [support.ids(40)], support.folder("llama", "bf16"), decode=1)

    def test_what_else_is_imported_does_not_matter(self):
        """A record that is taken up by a process with other libraries is the same record."""
        import types
        from unittest import mock

        from mantissa_forensics import observe

        other = types.ModuleType("bitsandbytes")
        other.__version__ = "0.0"
        plain = observe.versions()
        with mock.patch.dict(sys.modules, {"bitsandbytes": other, "peft": other}):
            self.assertEqual(observe.versions(), plain)
            self.assertEqual(observe.versions("bitsandbytes")["bitsandbytes"], "0.0")

    def test_two_processes_do_not_share_a_folder(self):
        out = support.new("held")
        process = self.start(out)
        process.stdout.readline()
        model = support.load("llama", "bf16")
        with self.assertRaisesRegex(CaptureError, "another process records into"):
            record(model, [support.ids(40), support.ids(40, 1)], out, batch_size=2, decode=6, repetitions=3)
        process.stdout.close()
        process.kill()
        process.wait()


if __name__ == "__main__":
    unittest.main()
