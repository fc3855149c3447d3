//! Files that earlier versions wrote must always read, to the same experiment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use mantissa_evidence::{Digest, Experiment, container, json, read};

use crate::sample;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/evidence/v1")
}

/// `MANTISSA_UPDATE=1` made these once; a change of format adds a folder, it does not rewrite this one.
#[test]
fn version_1_reads() {
    let (file, directory) = (folder().join("experiment.json"), folder().join("container"));
    if std::env::var_os("MANTISSA_UPDATE").is_some() && !file.exists() {
        std::fs::create_dir_all(folder()).unwrap();
        json::write(&file, &sample::fixture()).unwrap();
        container::write(&directory, &sample::fixture()).unwrap();
    }
    let experiment = read(&file).unwrap();
    assert_eq!(experiment, sample::fixture());
    assert_eq!(read(&directory).unwrap(), experiment);
    assert_eq!(read(&directory.join("manifest.json")).unwrap(), experiment);
}

/// The bytes of today's writer are those of version 1, on every machine.
#[test]
fn version_1_is_written_as_it_was() {
    let text = json::to_vec(&sample::fixture(), &folder()).unwrap();
    assert_eq!(Digest::of_bytes(&text), Digest::of_file(&folder().join("experiment.json")).unwrap());
    let directory = tempfile::tempdir().unwrap();
    container::write(directory.path(), &sample::fixture()).unwrap();
    let digests = |folder: &std::path::Path| -> BTreeMap<OsString, Digest> {
        let files = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        files.map(|file| (file.file_name(), Digest::of_file(&file.path()).unwrap())).collect()
    };
    assert_eq!(digests(directory.path()), digests(&folder().join("container")));
}

/// A prediction with the catalogs it used, which files of before do not state.
#[test]
fn catalogs_are_read_and_written_as_they_were() {
    let folder = folder().with_file_name("v1-catalogs");
    let file = folder.join("experiment.json");
    if std::env::var_os("MANTISSA_UPDATE").is_some() && !file.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        json::write(&file, &sample::predicted()).unwrap();
        container::write(&folder.join("container"), &sample::predicted()).unwrap();
    }
    for path in [file.clone(), folder.join("container")] {
        assert_eq!(read(&path).unwrap(), sample::predicted(), "{}", path.display());
    }
    let text = json::to_vec(&sample::predicted(), &folder).unwrap();
    assert_eq!(Digest::of_bytes(&text), Digest::of_file(&file).unwrap());
    let extras = |text: &[u8]| String::from_utf8_lossy(text).matches("\"catalogs\"").count();
    assert_eq!((extras(&text), extras(&json::to_vec(&sample::fixture(), &folder).unwrap())), (1, 0));
}

/// What was only asked of a heuristic is stated, and a file without a word of it says that nothing was.
#[test]
fn a_catalog_says_where_it_was_only_asked() {
    let mut experiment = sample::predicted();
    let of_first = |experiment: &Experiment| {
        experiment.configurations[0].mantissa.as_ref().map(|extras| extras.catalogs[0].asked)
    };
    assert_eq!(of_first(&experiment), Some(false));
    if let Some(extras) = &mut experiment.configurations[0].mantissa {
        extras.catalogs[0].asked = true;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("experiment.json");
    json::write(&file, &experiment).unwrap();
    container::write(&directory.path().join("container"), &experiment).unwrap();
    for path in [file.clone(), directory.path().join("container")] {
        assert_eq!(of_first(&read(&path).unwrap()), Some(true), "{}", path.display());
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("\"asked\"").count(), 1, "absent where nothing was only asked");
}
