//! The values of a trace, in safetensors files beside it: one file for each prompt.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek as _, Write as _};
use std::path::{Component, Path, PathBuf};

use mantissa_numerics::Dtype;
use memmap2::Mmap;
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use super::event::{StageTrace, TensorPlace, TraceHash};
use super::header::TraceHeader;
use crate::container::{format_name, header};
use crate::digest::Digest;
use crate::error::{EvidenceError, Flaw, Result};
use crate::files::{self, Existing};

/// Writes the values of events, which come in the order of the format.
///
/// ```
/// use mantissa_evidence::trace::{TensorFiles, TensorTrace};
/// use mantissa_numerics::{Dtype, Point, Site};
///
/// # let folder = tempfile::tempdir()?;
/// let mut files = TensorFiles::new(folder.path(), "values");
/// let mut tensor = TensorTrace::new("p0", 0, 1, Site::outside(Point::EmbedOut), Dtype::F32).keep(true);
/// tensor.push(&[(0, None)], &[0.5]);
/// let (mut event, values) = tensor.finish_with_values();
/// files.add(&mut event, &values)?;
/// files.finish()?;
/// let place = event.tensor.expect("where its values are");
/// assert_eq!((place.file.as_str(), place.name.as_str()), ("values/p0.safetensors", "prefill/embed_out"));
/// let bytes = std::fs::read(folder.path().join("p0.safetensors"))?;
/// let file = safetensors::SafeTensors::deserialize(&bytes)?;
/// assert_eq!(file.tensor(&place.name)?.data(), 0.5f32.to_le_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TensorFiles {
    folder: PathBuf,
    /// The folder as events name it.
    named: String,
    open: Option<Open>,
}

/// The file of a prompt in the making. Its header comes first and is known last, so values wait in a file of their own.
#[derive(Debug)]
struct Open {
    prompt_id: String,
    path: PathBuf,
    values: BufWriter<NamedTempFile>,
    tensors: Map<String, Value>,
    length: u64,
}

impl TensorFiles {
    /// Files in `folder`, which events name by its path relative to the trace.
    #[must_use]
    pub fn new(folder: &Path, named: &str) -> Self {
        Self { folder: folder.to_owned(), named: named.to_owned(), open: None }
    }

    /// Refuses prompts whose file is there already, before anything is computed.
    pub fn check(&self, header: &TraceHeader) -> Result<()> {
        let files = header.prompts.iter().map(|prompt| self.folder.join(file_name(&prompt.prompt_id)));
        files
            .into_iter()
            .find(|path| path.exists())
            .map_or(Ok(()), |path| Err(EvidenceError::Exists { path }))
    }

    /// Writes the values of an event, and puts their place into it.
    ///
    /// *Errors:* a file that is there already, or cannot be written.
    pub fn add(&mut self, event: &mut StageTrace, values: &[u8]) -> Result<()> {
        if self.open.as_ref().is_some_and(|open| open.prompt_id != event.prompt_id) {
            self.finish()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            empty => empty.insert(Open::new(&self.folder, &event.prompt_id)?),
        };
        let name = match (event.step, event.site()) {
            (0, Some(site)) => format!("prefill/{site}"),
            (step, Some(site)) => format!("decode_{step}/{site}"),
            (step, None) => format!("pass_{step}/{}", event.point),
        };
        let start = open.length;
        open.values.write_all(values).map_err(|source| unwritable(&open.path, source))?;
        open.length += values.len() as u64;
        let tensor = json!({
            "dtype": format_name(event.dtype.unwrap_or(Dtype::F32)),
            "shape": event.shape.unwrap_or_default(),
            "data_offsets": [start, open.length],
        });
        open.tensors.insert(name.clone(), tensor);
        let file = file_name(&event.prompt_id);
        let file = if self.named.is_empty() { file } else { format!("{}/{file}", self.named) };
        event.tensor = Some(TensorPlace { file, name });
        Ok(())
    }

    /// Ends the file of the last prompt.
    ///
    /// *Errors:* as [`TensorFiles::add`].
    pub fn finish(&mut self) -> Result<()> {
        self.open.take().map_or(Ok(()), Open::finish)
    }
}

impl Open {
    fn new(folder: &Path, prompt_id: &str) -> Result<Self> {
        let path = folder.join(file_name(prompt_id));
        let values = tempfile::Builder::new().prefix(".mantissa-").tempfile_in(folder);
        let values = values.map_err(|source| unwritable(&path, source))?;
        let values = BufWriter::with_capacity(1 << 20, values);
        Ok(Self { prompt_id: prompt_id.to_owned(), path, values, tensors: Map::new(), length: 0 })
    }

    fn finish(self) -> Result<()> {
        let Self { path, values, tensors, .. } = self;
        let mut values = values.into_inner().map_err(|error| unwritable(&path, error.into_error()))?;
        values.rewind().map_err(|source| unwritable(&path, source))?;
        files::write(&path, Existing::Keep, |out| {
            let mut header = serde_json::to_vec(&tensors)?;
            // Values begin at a multiple of eight.
            header.resize(header.len().next_multiple_of(8), b' ');
            out.write_all(&(header.len() as u64).to_le_bytes())?;
            out.write_all(&header)?;
            io::copy(&mut values, out).map(|_| ())
        })
    }
}

/// Reads the values of events from the files beside their trace.
///
/// ```
/// use mantissa_evidence::trace::{TensorFiles, TensorReader, TensorTrace};
/// use mantissa_numerics::{Dtype, Point, Site};
///
/// # let folder = tempfile::tempdir()?;
/// let mut files = TensorFiles::new(folder.path(), "");
/// let mut tensor = TensorTrace::new("p0", 0, 1, Site::outside(Point::EmbedOut), Dtype::F32).keep(true);
/// tensor.push(&[(0, None)], &[0.5]);
/// let (mut event, values) = tensor.finish_with_values();
/// files.add(&mut event, &values)?;
/// files.finish()?;
/// let mut reader = TensorReader::beside(&folder.path().join("trace.jsonl"));
/// assert_eq!(reader.values(&event)?, Some(values));
/// event.hash = None;
/// event.tensor = None;
/// assert_eq!(reader.values(&event)?, None, "it names no values");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TensorReader {
    folder: PathBuf,
    open: Option<(String, Mmap, BTreeMap<String, header::Tensor>)>,
}

impl TensorReader {
    /// A reader of the files beside a trace.
    #[must_use]
    pub fn beside(trace: &Path) -> Self {
        let folder = trace.parent().unwrap_or_else(|| Path::new("")).to_owned();
        Self { folder, open: None }
    }

    /// The values of an event as stored; `None` where it names none.
    ///
    /// *Errors:* a file that cannot be read, a tensor of another shape, values of another hash.
    pub fn values(&mut self, event: &StageTrace) -> Result<Option<Vec<u8>>> {
        let Some(place) = &event.tensor else { return Ok(None) };
        let path = self.folder.join(&place.file);
        let fault = |problem: &str| {
            Flaw::new(&place.name, problem, "make the trace again with --tensors").in_file(&path)
        };
        if Path::new(&place.file).components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(fault("its file is not in the folder of the trace"));
        }
        if self.open.as_ref().is_none_or(|(known, ..)| *known != place.file) {
            let file = files::map(&path)?;
            let tensors = header::read(&file).map_err(|flaw| flaw.in_file(&path))?;
            self.open = Some((place.file.clone(), file, tensors));
        }
        let found = self.open.as_ref().and_then(|(_, file, tensors)| Some((file, tensors.get(&place.name)?)));
        let Some((file, tensor)) = found else { return Err(fault("it is not there")) };
        let shape: Vec<u64> = tensor.shape.iter().map(|size| *size as u64).collect();
        let dtype = event.dtype.map(format_name);
        if event.shape.map(Vec::from) != Some(shape) || dtype != Some(tensor.dtype.as_str()) {
            return Err(fault("it has another shape or format than its event says"));
        }
        let values = file[tensor.range.clone()].to_vec();
        if event.hash != Some(TraceHash::Blake3(Digest::of_bytes(&values))) {
            let remedy = "make the trace again with --tensors";
            return Err(Flaw::altered(&place.name, "its values have another hash than its event", remedy)
                .in_file(&path));
        }
        Ok(Some(values))
    }
}

/// Name of the file of a prompt.
fn file_name(prompt_id: &str) -> String {
    format!("{prompt_id}.safetensors")
}

fn unwritable(path: &Path, source: io::Error) -> EvidenceError {
    let remedy = "check that the folder exists, can be written and has space";
    EvidenceError::Io { path: path.to_owned(), action: "write it", source, remedy }
}
