//! Files that were gzipped are read as what they hold.

use std::io::Read as _;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use mantissa_evidence::error::{EvidenceError, Result};

/// Largest file that is unpacked: it is held in memory.
const LARGEST_UNPACKED: u64 = 1 << 30;

/// What a gzipped file holds; `None` for any other file.
pub(crate) fn unpacked(bytes: &[u8], path: &Path) -> Result<Option<Vec<u8>>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(None);
    }
    let refuse = |problem: String, remedy: &str| EvidenceError::Invalid {
        path: path.to_owned(),
        place: "gzip".to_owned(),
        problem,
        remedy: remedy.to_owned(),
    };
    let mut unpacked = Vec::new();
    let mut limited = MultiGzDecoder::new(bytes).take(LARGEST_UNPACKED + 1);
    limited
        .read_to_end(&mut unpacked)
        .map_err(|error| refuse(format!("it cannot be unpacked: {error}"), "copy it again"))?;
    if unpacked.len() as u64 > LARGEST_UNPACKED {
        let problem = format!("it holds more than {LARGEST_UNPACKED} bytes");
        return Err(refuse(problem, "unpack it first"));
    }
    Ok(Some(unpacked))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn what_was_packed_comes_out_and_what_was_cut_is_refused() {
        let path = Path::new("a.json.gz");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"{\"a\": 1}").unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(unpacked(&packed, path).unwrap().as_deref(), Some(&b"{\"a\": 1}"[..]));
        // Two members one after the other are one file.
        let twice = [packed.clone(), packed.clone()].concat();
        assert_eq!(unpacked(&twice, path).unwrap().map(|bytes| bytes.len()), Some(16));
        let error = unpacked(&packed[..packed.len() / 2], path).unwrap_err().to_string();
        assert!(error.starts_with("a.json.gz: gzip: it cannot be unpacked"), "{error}");
        assert_eq!(unpacked(b"{}", path).unwrap(), None);
    }
}
