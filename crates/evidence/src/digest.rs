//! Digests: blake3 of bytes, of token ids, of files and of a run's signals.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A blake3 digest, 64 lower-case hexadecimal digits in files.
///
/// ```
/// use mantissa_evidence::Digest;
///
/// let digest = Digest::of_ids(&[1, 2]);
/// assert_eq!(digest, Digest::of_bytes(&[1, 0, 0, 0, 2, 0, 0, 0]));
/// assert_eq!(digest.to_string().parse(), Ok(digest));
/// assert!("ABC".parse::<Digest>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(#[schemars(regex(pattern = r"^[0-9a-f]{64}$"))] [u8; 32]);

impl Digest {
    /// Digest of bytes.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Digest of token ids, each as four little-endian bytes.
    #[must_use]
    pub fn of_ids(ids: &[u32]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for id in ids {
            hasher.update(&id.to_le_bytes());
        }
        Self::of_hasher(&hasher)
    }

    /// Digest of a file, read through a memory map by all cores.
    pub fn of_file(path: &Path) -> std::io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_mmap_rayon(path)?;
        Ok(Self::of_hasher(&hasher))
    }

    /// Digest of a file that may be larger than memory, read window by window, hashed by all cores.
    pub fn of_large_file(path: &Path) -> std::io::Result<Self> {
        let mut file = std::fs::File::open(path)?;
        let mut hasher = blake3::Hasher::new();
        let mut window = vec![0; 1 << 21];
        loop {
            match std::io::Read::read(&mut file, &mut window) {
                Ok(0) => return Ok(Self::of_hasher(&hasher)),
                Ok(length) => {
                    hasher.update_rayon(&window[..length]);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Digest of what was fed to `hasher`.
    pub(crate) fn of_hasher(hasher: &blake3::Hasher) -> Self {
        Self(*hasher.finalize().as_bytes())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let lower = !s.bytes().any(|b| b.is_ascii_uppercase());
        match blake3::Hash::from_hex(s) {
            Ok(hash) if lower => Ok(Self(*hash.as_bytes())),
            _ => Err("a digest is 64 lower-case hexadecimal digits".to_owned()),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Bytes that are hashed at once: BLAKE3 is fast on many chunks of a kilobyte side by side.
const AT_ONCE: usize = 128 * 1024;

/// Accumulates named tensors into one digest; see [`crate::Run::signals_digest`] for the framing.
#[derive(Default)]
pub(crate) struct Hasher {
    hashed: blake3::Hasher,
    /// Bytes that are still to be hashed.
    waiting: Vec<u8>,
}

impl Hasher {
    pub(crate) fn tensor(&mut self, name: &str, dtype: &str, shape: [usize; 3], bytes: &[u8]) {
        self.begin(name, dtype, shape);
        self.row(bytes);
    }

    /// Begins a tensor, whose rows follow in order.
    pub(crate) fn begin(&mut self, name: &str, dtype: &str, shape: [usize; 3]) {
        for text in [name, dtype] {
            self.count(text.len());
            self.row(text.as_bytes());
        }
        for dim in shape {
            self.count(dim);
        }
    }

    pub(crate) fn row(&mut self, bytes: &[u8]) {
        if self.waiting.len() + bytes.len() > AT_ONCE {
            self.hashed.update(&self.waiting);
            self.waiting.clear();
        }
        if bytes.len() > AT_ONCE {
            self.hashed.update(bytes);
        } else {
            self.waiting.extend_from_slice(bytes);
        }
    }

    fn count(&mut self, n: usize) {
        self.row(&(n as u64).to_le_bytes());
    }

    pub(crate) fn finish(mut self) -> Digest {
        self.hashed.update(&self.waiting);
        Digest::of_hasher(&self.hashed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_hash_as_little_endian_words_and_digests_print_and_parse() {
        let digest = Digest::of_ids(&[1, 0x0102_0304]);
        assert_eq!(digest, Digest::of_bytes(&[1, 0, 0, 0, 4, 3, 2, 1]));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Digest::of_ids(&[]).to_string(), empty);
        for wrong in ["", &empty[1..], &empty.to_uppercase(), "g".repeat(64).as_str()] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
