"""BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs, the plain hash) in numpy: many chunks at a time.

The package's only hard dependencies are numpy and safetensors, so that it installs beside anybody's inference. Where
the `blake3` package is there, it is used: the digests are the same and large weights are hashed sooner. Left out: keyed
hashing, derived keys, digests of other lengths.
"""

import numpy as np

_IV = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], np.uint32
)
_ORDER = np.array([2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8])
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8
_CHUNK, _BLOCK = 1024, 64
_TURN, _HALF, _BACK = np.array([1, 2, 3, 0]), np.array([2, 3, 0, 1]), np.array([3, 0, 1, 2])
# Chunks of one call of `_chunks`, a power of two: their words fit a cache.
_LANES = 2048


def _right(x, by):
    turned = x >> np.uint32(by)
    x <<= np.uint32(32 - by)
    turned |= x
    return turned


def _mix(a, b, c, d, x, y):
    """Four of the specification's `G` side by side, each over all lanes. *Shape:* of every argument `[4, lanes]`."""
    a += b
    a += x
    d[:] = _right(d ^ a, 16)
    c += d
    b[:] = _right(b ^ c, 12)
    a += b
    a += y
    d[:] = _right(d ^ a, 8)
    c += d
    b[:] = _right(b ^ c, 7)


def _compress(chain, words, counter, length, flags):
    """New chaining values. *Shape:* `chain` `[8, lanes]`, `words` `[16, lanes]`; the others one value or `[lanes]`."""
    lanes = chain.shape[1]
    v = np.empty((16, lanes), np.uint32)
    v[:8] = chain
    v[8:12] = _IV[:4, None]
    counter = np.asarray(counter, np.uint64)
    v[12] = (counter & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    v[13] = (counter >> np.uint64(32)).astype(np.uint32)
    v[14] = length
    v[15] = flags
    a, b, c, d = v[0:4], v[4:8], v[8:12], v[12:16]
    for number in range(7):
        _mix(a, b, c, d, words[0:8:2], words[1:8:2])
        # The diagonals: rows 1 to 3 turned, mixed, turned back.
        b1, c1, d1 = b[_TURN], c[_HALF], d[_BACK]
        _mix(a, b1, c1, d1, words[8:16:2], words[9:16:2])
        b[:], c[:], d[:] = b1[_BACK], c1[_HALF], d1[_TURN]
        if number < 6:
            words = words[_ORDER]
    return v[:8] ^ v[8:]


def _chunks(data, first):
    """Chaining values of whole chunks, none the root. *Shape:* `data` `[chunks · 1024]` bytes to `[8, chunks]`."""
    count = len(data) // _CHUNK
    words = np.frombuffer(data, "<u4").reshape(count, 16, 16)
    words = np.ascontiguousarray(words.transpose(1, 2, 0))
    chain = np.repeat(_IV[:, None], count, 1)
    counter = np.uint64(first) + np.arange(count, dtype=np.uint64)
    for block in range(16):
        flags = (_CHUNK_START if block == 0 else 0) | (_CHUNK_END if block == 15 else 0)
        chain = _compress(chain, words[block], counter, _BLOCK, flags)
    return chain


def _parents(left, right, flags=0):
    """Parents of pairs. *Shape:* all `[8, pairs]`."""
    return _compress(
        np.repeat(_IV[:, None], left.shape[1], 1), np.concatenate([left, right]), 0, _BLOCK, _PARENT | flags
    )


def _last_chunk(data, counter, root):
    """The last chunk, whole or not. *Shape:* to `[8, 1]`."""
    chain = _IV[:, None]
    blocks = max(1, -(-len(data) // _BLOCK))
    for block in range(blocks):
        piece = data[block * _BLOCK : (block + 1) * _BLOCK]
        words = np.frombuffer(bytes(piece).ljust(_BLOCK, b"\0"), "<u4")[:, None]
        flags = (_CHUNK_START if block == 0 else 0) | ((_CHUNK_END | root) if block == blocks - 1 else 0)
        chain = _compress(chain, words, counter, len(piece), flags)
    return chain


class _Numpy:
    """BLAKE3 piece by piece: `update`, then `hexdigest`."""

    def __init__(self):
        self._rest = bytearray()
        self._counter = 0
        # Subtrees of descending size: (chunks, chaining value).
        self._stack = []

    def update(self, data):
        data = memoryview(data).cast("B") if not isinstance(data, (bytes, bytearray)) else memoryview(data)
        window = _LANES * _CHUNK
        while len(data):
            # What may be the last chunk is kept.
            if len(self._rest) > window:
                self._take(bytes(self._rest[:window]))
                del self._rest[:window]
            elif not self._rest and len(data) > window:
                self._take(data[:window])
                data = data[window:]
            else:
                room = window + _CHUNK - len(self._rest)
                self._rest += data[:room]
                data = data[room:]
        return self

    def _take(self, data):
        self._counter += _grow(self._stack, data, self._counter)

    def hexdigest(self):
        rest, stack, counter = bytes(self._rest), list(self._stack), self._counter
        while len(rest) > _CHUNK:
            # The largest whole subtree that leaves something for the last chunk.
            chunks = 1 << (-(-len(rest) // _CHUNK) - 1).bit_length() - 1
            counter += _grow(stack, rest[: chunks * _CHUNK], counter)
            rest = rest[chunks * _CHUNK :]
        if not stack:
            return _hex(_last_chunk(rest, counter, _ROOT))
        value = _last_chunk(rest, counter, 0)
        while stack:
            value = _parents(stack.pop()[1], value, 0 if stack else _ROOT)
        return _hex(value)


def _grow(stack, data, counter):
    """Adds the subtree over `data`, whose chunks are a power of two in number; returns that number."""
    level, size = _chunks(data, counter), 1
    chunks = level.shape[1]
    while level.shape[1] > 1:
        level, size = _parents(level[:, 0::2], level[:, 1::2]), size * 2
    while stack and stack[-1][0] == size:
        level, size = _parents(stack.pop()[1], level), size * 2
    stack.append((size, level))
    return chunks


def _hex(chain):
    return chain[:, 0].astype("<u4").tobytes().hex()


def hasher():
    """An empty hasher with `update(bytes)` and `hexdigest()`."""
    try:
        import blake3
    except ImportError:
        return _Numpy()
    return blake3.blake3()


def digest(data):
    """The BLAKE3 of bytes, 64 hexadecimal digits."""
    return hasher().update(data).hexdigest()


def of_ids(ids):
    """The digest of token ids, each as four little-endian bytes (docs/format/experiment-json.md)."""
    return digest(np.asarray(list(ids), "<u4").tobytes())


def of_file(path):
    """The digest of a file's bytes, read window by window."""
    found = hasher()
    with open(path, "rb") as file:
        while window := file.read(16 << 20):
            found.update(window)
    return found.hexdigest()
