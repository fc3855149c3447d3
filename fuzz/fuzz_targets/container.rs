//! A container with damaged files: an error of one line, or a record that is written and read back unchanged.
//!
//! After a mode byte the input is cut into `which file, where, replacement` edits of a container that reads, or is a
//! whole file.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use mantissa_evidence::{Digest, container, read};

/// Names and bytes of the good container's files, smallest first.
fn good() -> &'static [(String, Vec<u8>)] {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/evidence/v1/container");
        let entries = fs::read_dir(folder).expect("the fixture").map(|entry| entry.expect("an entry"));
        let mut files: Vec<_> = entries
            .map(|e| (e.file_name().into_string().expect("a name"), fs::read(e.path()).expect("a file")))
            .collect();
        files.sort_by_key(|(name, bytes)| (bytes.len(), name.clone()));
        files
    })
}

fn folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    base.join(format!("mantissa-fuzz-{}", std::process::id()))
}

/// Makes the manifest state the sizes and digests of changed run files, so that what lies behind those checks is
/// reached.
fn forge(files: &mut [(String, Vec<u8>)]) {
    let entry = |bytes: &[u8]| {
        format!("\"bytes\": {},\n    \"blake3\": \"{}\"", bytes.len(), Digest::of_bytes(bytes))
    };
    let changed: Vec<_> = files
        .iter()
        .filter_map(|(name, bytes)| {
            let old = &good().iter().find(|(n, b)| n == name && b != bytes && n.starts_with("run-"))?.1;
            Some((entry(old), entry(bytes)))
        })
        .collect();
    for (name, bytes) in files {
        if name == container::MANIFEST
            && let Ok(mut text) = String::from_utf8(bytes.clone())
        {
            for (old, new) in &changed {
                text = text.replace(old, new);
            }
            *bytes = text.into_bytes();
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&mode, rest)) = bytes.split_first() else { return };
    let directory = folder();
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a folder");
    let mut files = good().to_vec();
    let count = files.len();
    if mode & 0x80 != 0 {
        files[usize::from(mode) % count].1 = rest.to_vec();
    } else {
        for edit in rest.chunks_exact(4) {
            let content = &mut files[usize::from(edit[0]) % count].1;
            let at = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % content.len().max(1);
            match edit[0] / 16 {
                0 => content.truncate(at),
                1 => content.insert(at, edit[3]),
                _ if at < content.len() => content[at] = edit[3],
                _ => (),
            }
        }
    }
    if mode & 0x40 != 0 {
        forge(&mut files);
    }
    for (name, content) in &files {
        fs::write(directory.join(name), content).expect("a file");
    }
    match read(&directory) {
        Ok(experiment) => {
            let copy = directory.join("copy");
            container::write(&copy, &experiment).expect("what was read can be written");
            read(&copy).expect("what was written can be read");
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
    }
});
