"""BLAKE3 in numpy: digests of the specification, and whole files against the program's."""

import random
import unittest

from . import support
from mantissa_forensics import blake3

# Of `i mod 251` for each length: the specification's test vectors, first 32 bytes.
VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1023: "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    2048: "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
    31744: "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
    102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
}


class Blake3(unittest.TestCase):
    def test_vectors_of_the_specification(self):
        for length, digest in VECTORS.items():
            data = bytes(i % 251 for i in range(length))
            self.assertEqual(blake3._Numpy().update(data).hexdigest(), digest, length)

    def test_pieces_do_not_matter(self):
        data = random.Random(1).randbytes((4 << 20) + 777)
        whole = blake3._Numpy().update(data).hexdigest()
        lot = random.Random(2)
        for _ in range(3):
            found, at = blake3._Numpy(), 0
            while at < len(data):
                step = lot.choice([1, 1023, 4096, 1 << 20, 3 << 20])
                found.update(data[at : at + step])
                at += step
            self.assertEqual(found.hexdigest(), whole)

    def test_a_whole_checkpoint_has_the_programs_digest(self):
        from unittest import mock

        from mantissa_forensics import weights

        folder = support.folder("llama")
        stated = support.run_json("inspect", folder, "--digest")["digest"]["digest"]
        with mock.patch("shutil.which", return_value=None):
            self.assertEqual(weights.checkpoint_digest(folder), stated)


if __name__ == "__main__":
    unittest.main()
