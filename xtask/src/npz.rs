//! NumPy's `.npz`: a ZIP archive of `.npy` arrays, stored or deflated.
//!
//! Read: little-endian two-byte and four-byte elements in C order, npy versions 1 and 2. Left out, each with a clear
//! refusal: ZIP64 archives, encryption, other compressions, other element types. Every count is checked against the
//! file's length before it is used, and an array against its checksum.
//!
//! *Source:* APPNOTE.TXT 6.3 of PKWARE, sections 4.3 and 4.4; NEP 1 of NumPy.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// Arrays larger than this are refused.
const LARGEST: usize = 1 << 30;

/// Arrays by name, without `.npy`.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    /// The file, for messages.
    pub(crate) name: String,
    pub(crate) arrays: BTreeMap<String, Array>,
}

/// One array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Array {
    /// NumPy's type, as `<i2`.
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    /// Elements as they are in the file.
    pub(crate) data: Vec<u8>,
}

impl Archive {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).with_context(|| format!("{name}: cannot be read"))?;
        let arrays = entries(&bytes).with_context(|| name.clone())?;
        Ok(Self { name, arrays })
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Array> {
        self.arrays.get(name).with_context(|| {
            format!("{}: no array `{name}`; probe_gemm_dump.py writes what is needed", self.name)
        })
    }
}

impl Array {
    /// Elements of two bytes, as `<i2` or `<u2`.
    pub(crate) fn patterns16(&self) -> Result<Vec<u16>> {
        ensure!(matches!(&*self.dtype, "<i2" | "<u2"), "elements are {}, not 16-bit patterns", self.dtype);
        Ok(self.data.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect())
    }

    /// Patterns of binary32 elements.
    pub(crate) fn patterns32(&self) -> Result<Vec<u32>> {
        ensure!(self.dtype == "<f4", "elements are {}, not binary32 (<f4)", self.dtype);
        Ok(self.data.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}

/// A place in the file; reads little-endian numbers.
#[derive(Clone, Copy)]
struct At<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> At<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            bail!("ends {count} bytes too early at byte {}; copy the file again", self.at)
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<usize> {
        let b = self.take(2)?;
        Ok(u16::from_le_bytes([b[0], b[1]]).into())
    }

    fn u32(&mut self) -> Result<u32> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn size(&mut self) -> Result<usize> {
        let size = self.u32()?;
        ensure!(size != u32::MAX, "a ZIP64 entry; write it with less than 4 GB");
        Ok(usize::try_from(size)?)
    }

    fn signature(&mut self, expected: [u8; 4], what: &str) -> Result<()> {
        let at = self.at;
        ensure!(self.take(4)? == expected, "no {what} at byte {at}; copy the file again");
        Ok(())
    }
}

fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Array>> {
    // The end record has 22 bytes and a comment of at most 65,535.
    let from = bytes.len().saturating_sub(22 + 65_535);
    let end = bytes[from..].windows(4).rposition(|window| window == b"PK\x05\x06");
    let end =
        from + end.context("not a ZIP archive, or cut off: it has no end record; copy the file again")?;
    let mut record = At { bytes, at: end + 8 };
    let _ = record.u16()?;
    let count = record.u16()?;
    let _ = record.size()?;
    let mut directory = At { bytes, at: record.size()? };
    let comment = record.u16()?;
    let _ = record.take(comment)?;
    let mut arrays = BTreeMap::new();
    for _ in 0..count {
        let (name, array) = entry(&mut directory)?;
        ensure!(!arrays.contains_key(&name), "two entries are named `{name}`");
        arrays.insert(name, array);
    }
    ensure!(
        directory.at == end,
        "{count} entries end at byte {}, not at {end}; copy the file again",
        directory.at
    );
    Ok(arrays)
}

/// The next entry of the central directory.
fn entry(directory: &mut At<'_>) -> Result<(String, Array)> {
    directory.signature(*b"PK\x01\x02", "directory entry")?;
    let _versions = directory.u32()?;
    let flags = directory.u16()?;
    let method = directory.u16()?;
    let _time = directory.u32()?;
    let checksum = directory.u32()?;
    let (packed, unpacked) = (directory.size()?, directory.size()?);
    let (name, extra, comment) = (directory.u16()?, directory.u16()?, directory.u16()?);
    let _disk_and_attributes = directory.take(8)?;
    let local = directory.size()?;
    let name = String::from_utf8_lossy(directory.take(name)?).into_owned();
    let _ = directory.take(extra + comment)?;
    let array = (|| {
        ensure!(flags & 1 == 0, "encrypted; write it without");
        ensure!(unpacked <= LARGEST, "{unpacked} bytes, more than {LARGEST}");
        let mut local = At { bytes: directory.bytes, at: local };
        local.signature(*b"PK\x03\x04", "entry")?;
        let _ = local.take(22)?;
        let skipped = local.u16()? + local.u16()?;
        let _ = local.take(skipped)?;
        let packed = local.take(packed)?;
        let bytes = match method {
            0 => packed.to_vec(),
            8 => miniz_oxide::inflate::decompress_to_vec_with_limit(packed, unpacked)
                .map_err(|error| anyhow::anyhow!("damaged: {error}; copy the file again"))?,
            other => bail!("compressed by method {other}; only stored (0) and deflated (8) are read"),
        };
        ensure!(bytes.len() == unpacked, "has {} bytes, its entry says {unpacked}", bytes.len());
        ensure!(crc32(&bytes) == checksum, "its checksum does not fit; copy the file again");
        array(&bytes)
    })();
    let array = array.with_context(|| format!("entry `{name}`"))?;
    Ok((name.strip_suffix(".npy").unwrap_or(&name).to_owned(), array))
}

/// The checksum of ZIP, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ (0xEDB8_8320 & (sum & 1).wrapping_neg()))
    })
}

/// One `.npy`.
fn array(bytes: &[u8]) -> Result<Array> {
    let mut at = At { bytes, at: 0 };
    ensure!(at.take(6)? == b"\x93NUMPY", "not a NumPy array");
    let length = match at.take(2)?[0] {
        1 => at.u16()?,
        2 => at.size()?,
        other => bail!("npy version {other}; versions 1 and 2 are read"),
    };
    let header = std::str::from_utf8(at.take(length)?).context("the header is not text")?;
    let value = |key: &str| {
        let (_, rest) = header.split_once(&format!("'{key}':")).with_context(|| format!("no `{key}`"))?;
        Ok::<_, anyhow::Error>(rest.trim_start())
    };
    let dtype = value("descr")?.split('\'').nth(1).context("`descr` is no string")?.to_owned();
    let size = match &*dtype {
        "<i2" | "<u2" => 2,
        "<f4" | "<i4" | "<u4" => 4,
        other => bail!("elements of type `{other}`; <i2, <u2, <i4, <u4 and <f4 are read"),
    };
    ensure!(value("fortran_order")?.starts_with("False"), "in Fortran order; write it in C order");
    let shape = value("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let (shape, _) = shape.context("`shape` is no tuple")?;
    let shape = shape.split(',').map(str::trim).filter(|axis| !axis.is_empty());
    let shape = shape.map(|axis| axis.parse().with_context(|| format!("`{axis}` is no length")));
    let shape: Vec<usize> = shape.collect::<Result<_>>()?;
    let data = &bytes[at.at..];
    let expected = shape.iter().try_fold(size, |product: usize, axis| product.checked_mul(*axis));
    ensure!(expected == Some(data.len()), "{} bytes of data for a shape of {shape:?}", data.len());
    Ok(Array { dtype, shape, data: data.to_vec() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The archive as a file, as NumPy writes it.
    pub(crate) fn written(archive: &Archive, deflated: bool) -> Vec<u8> {
        let (mut file, mut directory) = (Vec::new(), Vec::new());
        let short = |n: usize| u16::try_from(n).unwrap().to_le_bytes();
        let long = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        for (name, array) in &archive.arrays {
            let axes = format!("{:?}", array.shape).replace(['[', ']'], "");
            let header =
                format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({axes},), }}\n", array.dtype);
            let mut npy = b"\x93NUMPY\x01\x00".to_vec();
            npy.extend(short(header.len()));
            npy.extend(header.bytes());
            npy.extend(&array.data);
            let packed = if deflated { miniz_oxide::deflate::compress_to_vec(&npy, 1) } else { npy.clone() };
            let name = format!("{name}.npy");
            let mut common = short(if deflated { 8 } else { 0 }).to_vec();
            common.extend([0; 4]);
            common.extend(crc32(&npy).to_le_bytes());
            common.extend(long(packed.len()));
            common.extend(long(npy.len()));
            common.extend(short(name.len()));
            directory.extend(b"PK\x01\x02\x14\x00\x14\x00\x00\x00");
            directory.extend(&common);
            directory.extend([0; 12]);
            directory.extend(long(file.len()));
            directory.extend(name.bytes());
            file.extend(b"PK\x03\x04\x14\x00\x00\x00");
            file.extend(&common);
            file.extend([0; 2]);
            file.extend(name.bytes());
            file.extend(packed);
        }
        let count = short(archive.arrays.len());
        let (size, at) = (long(directory.len()), long(file.len()));
        file.extend(directory);
        file.extend(b"PK\x05\x06\x00\x00\x00\x00");
        file.extend(count);
        file.extend(count);
        file.extend(size);
        file.extend(at);
        file.extend([0; 2]);
        file
    }

    fn sample() -> Archive {
        let array = |dtype: &str, shape: &[usize], bytes| Array {
            dtype: dtype.to_owned(),
            shape: shape.to_vec(),
            data: (0..bytes).collect(),
        };
        let arrays = [("x", array("<i2", &[1, 5], 10)), ("y", array("<f4", &[3], 12))];
        let arrays = arrays.map(|(name, array)| (name.to_owned(), array));
        Archive { name: "sample".into(), arrays: arrays.into() }
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        for deflated in [false, true] {
            assert_eq!(entries(&written(&sample(), deflated)).unwrap(), sample().arrays);
        }
    }

    #[test]
    fn a_bad_file_is_refused_in_one_line() {
        for deflated in [false, true] {
            let good = written(&sample(), deflated);
            for length in 0..good.len() {
                let said = format!("{:#}", entries(&good[..length]).unwrap_err());
                assert!(said.contains("no end record") || said.contains("too early"), "{length}: {said}");
            }
            let mut refused = 0;
            for at in 0..good.len() {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[at] ^= 1 << bit;
                    match entries(&bad) {
                        Ok(found) => {
                            // Times, attributes, names and what only the local headers repeat.
                            let whole = |array: &Array| sample().arrays.values().any(|other| other == array);
                            assert!(found.len() == 2 && found.values().all(whole), "byte {at}, bit {bit}");
                        }
                        Err(error) => {
                            refused += 1;
                            assert!(!format!("{error:#}").contains('\n'));
                        }
                    }
                }
            }
            assert!(refused > 1000, "{refused}");
        }
        assert!(format!("{:#}", entries(b"no archive").unwrap_err()).contains("not a ZIP archive"));
    }

    #[test]
    fn arrays_that_are_not_meant_are_named() {
        let mut other = sample();
        other.arrays.get_mut("y").unwrap().dtype = "<f8".into();
        let said = format!("{:#}", entries(&written(&other, false)).unwrap_err());
        assert_eq!(said, "entry `y.npy`: elements of type `<f8`; <i2, <u2, <i4, <u4 and <f4 are read");
        let mut other = sample();
        other.arrays.get_mut("y").unwrap().shape = vec![usize::MAX, 2];
        assert!(format!("{:#}", entries(&written(&other, false)).unwrap_err()).contains("12 bytes of data"));
        assert!(format!("{:#}", sample().get("z").unwrap_err()).starts_with("sample: no array `z`"));
    }
}
