//! Where the bytes of a record lie, read a piece at a time so that memory does not grow with the file.

use std::fs::File;
use std::io;

/// A file, or bytes that are already in memory.
#[derive(Debug)]
pub(super) enum Source {
    File { file: File, bytes: u64 },
    Memory(Vec<u8>),
}

/// Bytes read at a time when a place is looked for.
const WINDOW: usize = 1 << 18;

impl Source {
    /// Fills the front of `buffer` from `offset` on; returns how many bytes there were, 0 only at the end.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File { file, bytes } => {
                let left = usize::try_from(bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
                let wanted = left.min(buffer.len());
                read_exact_at(file, &mut buffer[..wanted], offset)?;
                Ok(wanted)
            }
            Self::Memory(bytes) => {
                let rest =
                    usize::try_from(offset).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
                let found = rest.len().min(buffer.len());
                buffer[..found].copy_from_slice(&rest[..found]);
                Ok(found)
            }
        }
    }

    /// Appends `count` bytes from `offset` on to `out`.
    pub(super) fn append(&self, offset: u64, count: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        out.resize(start + count, 0);
        if self.read(offset, &mut out[start..])? == count {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Line and column of a byte, both counted from 1.
    pub(super) fn place(&self, offset: u64) -> io::Result<(usize, usize)> {
        let mut buffer = vec![0; WINDOW];
        let (mut at, mut line, mut line_start) = (0, 1, 0);
        while at < offset {
            let wanted = usize::try_from(offset - at).map_or(WINDOW, |left| left.min(WINDOW));
            let found = self.read(at, &mut buffer[..wanted])?;
            if found == 0 {
                break;
            }
            line += buffer[..found].iter().fold(0, |ends, byte| ends + usize::from(*byte == b'\n'));
            if let Some(last) = buffer[..found].iter().rposition(|byte| *byte == b'\n') {
                line_start = at + last as u64 + 1;
            }
            at += found as u64;
        }
        Ok((line, usize::try_from(offset - line_start).map_or(usize::MAX, |column| column + 1)))
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            found => {
                buffer = &mut buffer[found..];
                offset += found as u64;
            }
        }
    }
    Ok(())
}
