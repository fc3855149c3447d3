//! An experiment JSON whose rows stay in the file: the place of each is kept, 16 bytes a row, and a row is parsed when
//! it is asked for.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use mantissa_numerics::{Dtype, Site};

use super::layout::{self, Candidates, phase_index};
use super::skeleton::{Broken, Named, Part, Scanner, Span, Stop};
use super::source::Source;
use super::text::{self, Unreadable};
use crate::FORMAT_VERSION;
use crate::damage::Damage;
use crate::digest::Digest;
use crate::error::{EvidenceError, Flaw, Result};
use crate::experiment::{Configuration, Experiment, ExperimentMetadata};
use crate::files;
use crate::json::wire::{Bits, PhaseLayout, ReadRun, TensorLayout, TopK};
use crate::json::{self, Placed, Sink};
use crate::run::Run;
use crate::validate;

const COPY_AGAIN: &str = "correct the JSON, or copy it again if it was cut or mixed up";

/// An experiment JSON that was read through once.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) shell: Experiment,
    pub(super) layouts: Vec<[Option<PhaseLayout>; 2]>,
    pub(super) stated: Vec<Option<Digest>>,
    pub(super) warnings: Vec<String>,
    pub(super) rows: Rows,
}

/// Where the rows of an experiment JSON lie.
#[derive(Debug)]
pub(super) struct Rows {
    source: Source,
    phases: Vec<[Option<Index>; 2]>,
}

/// Where a row lies in the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    bytes: u32,
}

/// The rows of a phase: by step; within one by site and position; then, by position, ids and log-probabilities.
#[derive(Debug)]
struct Index {
    places: Vec<Place>,
    /// Values that stand as `null`: by row, place in it and bit pattern.
    patterns: BTreeMap<usize, Vec<(usize, u32)>>,
    positions: usize,
    sites: usize,
    logprobs: bool,
}

impl Index {
    fn push(&mut self, span: Span) {
        self.places.push(Place { offset: span.offset, bytes: span.bytes });
    }

    fn step(&self) -> usize {
        (self.sites + if self.logprobs { 2 } else { 0 }) * self.positions
    }

    fn of_site(&self, step: usize, site: usize, position: usize) -> usize {
        step * self.step() + site * self.positions + position
    }

    /// Of the ids; the log-probabilities follow.
    fn of_candidates(&self, step: usize, position: usize) -> usize {
        step * self.step() + self.sites * self.positions + 2 * position
    }
}

impl Sink for Index {
    type Row = Named;
    type Ids = Named;
    type Context = Vec<Span>;

    fn width(row: &Named, spans: &Vec<Span>) -> usize {
        spans.get(row.0).map_or(0, |span| span.values as usize)
    }

    fn new(layout: &PhaseLayout) -> Self {
        Self {
            places: Vec::new(),
            patterns: BTreeMap::new(),
            positions: layout.positions.len(),
            sites: layout.tensors.0.len(),
            logprobs: layout.logprobs.is_some(),
        }
    }

    fn row(
        &mut self,
        _: Site,
        row: Named,
        bits: &Bits,
        layout: TensorLayout,
        spans: &Vec<Span>,
    ) -> std::result::Result<(), Flaw> {
        json::check_width(Self::width(&row, spans), layout.dim)?;
        let patterns = json::patterns(bits, layout.dtype)?;
        if !patterns.is_empty() {
            self.patterns.insert(self.places.len(), patterns);
        }
        self.push(spans[row.0]);
        Ok(())
    }

    fn candidates(
        &mut self,
        top: TopK<Named, Named>,
        bits: &Bits,
        k: usize,
        spans: &Vec<Span>,
    ) -> std::result::Result<(), Flaw> {
        json::check_ids(Self::width(&top.token_ids, spans), k)?;
        json::check_width(Self::width(&top.log_probs, spans), k)?;
        self.push(spans[top.token_ids.0]);
        let patterns = json::patterns(bits, Dtype::F32)?;
        if !patterns.is_empty() {
            self.patterns.insert(self.places.len(), patterns);
        }
        self.push(spans[top.log_probs.0]);
        Ok(())
    }
}

/// Passes over a file.
pub(super) fn open(path: &Path, damage: &mut Damage) -> Result<Opened> {
    let file = files::open(path)?;
    let bytes = file.metadata().map_err(|source| files::unreadable(path, source))?.len();
    pass(Source::File { file, bytes }, path, damage)
}

/// Passes over bytes in memory.
pub(super) fn from_bytes(bytes: Vec<u8>, origin: &Path, damage: &mut Damage) -> Result<Opened> {
    pass(Source::Memory(bytes), origin, damage)
}

fn pass(source: Source, origin: &Path, damage: &mut Damage) -> Result<Opened> {
    let (mut metadata, mut configurations) = (None, Vec::new());
    let (mut runs, mut layouts, mut phases, mut stated) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut scanner = Scanner::new(&source);
    let passed = scanner.document(|scanner, part| {
        match part {
            Part::Metadata => metadata = Some(parse_metadata(scanner, origin)?),
            Part::Configurations => configurations = scanner.parse::<Vec<Configuration>>()?,
            Part::Run => {
                let place = format!("runs[{}]", runs.len());
                let in_file = |flaw: Flaw| flaw.under(&place).in_file(origin);
                let wire = scanner.parse::<ReadRun<Named, Named>>()?;
                let placed = json::place::<Index>(wire, scanner.rows()).map_err(in_file)?;
                let (run, digest, parts, altered) = settle(placed).map_err(in_file)?;
                damage.notes(altered.into_iter().map(|flaw| flaw.under(&place)), origin)?;
                let [prefill, decode] = parts.map(Option::unzip);
                layouts.push([prefill.0, decode.0]);
                phases.push([prefill.1, decode.1]);
                stated.push(digest);
                runs.push(run);
            }
        }
        Ok(())
    });
    let found = *scanner.found();
    passed.map_err(|stop| explain(stop, &source, origin))?;
    let unreadable = |error| files::unreadable(origin, error);
    let warnings = found.warnings(|offset| source.place(offset).map(|(line, _)| line)).map_err(unreadable)?;
    let Some(metadata) = metadata else {
        return Err(Flaw::new("experiment_metadata", "is missing", COPY_AGAIN).in_file(origin));
    };
    let shell = Experiment { metadata, configurations, runs };
    validate::shell(&shell).map_err(|flaw| flaw.in_file(origin))?;
    Ok(Opened {
        shell,
        layouts,
        stated,
        warnings: warnings.iter().map(ToString::to_string).collect(),
        rows: Rows { source, phases },
    })
}

fn parse_metadata(scanner: &Scanner<'_>, origin: &Path) -> std::result::Result<ExperimentMetadata, Stop> {
    let version = |found| EvidenceError::Version { path: origin.to_owned(), found, known: FORMAT_VERSION };
    // An unknown key of a later version should be reported as that version.
    let later = || {
        let document = [b"{\"experiment_metadata\":", scanner.skeleton(), b"}"].concat();
        json::text::later_version(&document).map(|found| Stop::Invalid(version(found)))
    };
    let metadata: ExperimentMetadata = scanner.parse().map_err(|stop| later().unwrap_or(stop))?;
    match metadata.mantissa.as_ref().map(|provenance| provenance.format_version) {
        Some(found) if found > FORMAT_VERSION => Err(version(u64::from(found)).into()),
        _ => Ok(metadata),
    }
}

type Phases = [Option<(PhaseLayout, Index)>; 2];

type Settled = (Run, Option<Digest>, Phases, Vec<Flaw>);

/// Checks what a run states about its layouts, and keeps the digest that it states for its signals and what of its ids
/// is not as stated.
fn settle(placed: Placed<Index>) -> std::result::Result<Settled, Flaw> {
    let Placed { mut run, phases, extras } = placed;
    let digest = extras.as_ref().map(|extras| extras.signals_digest);
    let mut altered = Vec::new();
    if let Some(extras) = extras {
        altered = json::damage_of_ids(&extras);
        json::fill(&mut run, extras);
    }
    for phase in [mantissa_numerics::Phase::Prefill, mantissa_numerics::Phase::Decode] {
        if let Some((layout, _)) = &phases[phase_index(phase)] {
            validate::layout(phase, layout, run.output_token_ids.len())?;
        }
    }
    Ok((run, digest, phases, altered))
}

fn explain(stop: Stop, source: &Source, origin: &Path) -> EvidenceError {
    match stop {
        Stop::Io(error) => files::unreadable(origin, error),
        Stop::Invalid(error) => error,
        Stop::Broken(Broken { offset, problem, remedy }) => match source.place(offset) {
            Err(error) => files::unreadable(origin, error),
            Ok((line, column)) => {
                let (path, remedy) = (origin.to_owned(), remedy.to_owned());
                EvidenceError::Json { path, line, column, problem, remedy }
            }
        },
    }
}

impl Rows {
    /// Puts a row of a site into `scratch`; `false` when there is none.
    pub(super) fn site(
        &self,
        [run, phase]: [usize; 2],
        [step, site, position]: [usize; 3],
        tensor: layout::TensorLayout,
        origin: &Path,
        scratch: &mut Vec<u8>,
    ) -> Result<bool> {
        let Some(index) = self.phases.get(run).and_then(|phases| phases[phase].as_ref()) else {
            return Ok(false);
        };
        let slot = index.of_site(step, site, position);
        let size = tensor.dim * tensor.dtype.size();
        self.values(index, slot, (tensor.dtype, false), size, origin, scratch)?;
        Ok(true)
    }

    /// The `k` candidates of a position.
    pub(super) fn candidates(
        &self,
        [run, phase]: [usize; 2],
        [step, position]: [usize; 2],
        k: usize,
        vocab_size: Option<u32>,
        origin: &Path,
    ) -> Result<Option<Candidates>> {
        let Some(index) = self.phases.get(run).and_then(|phases| phases[phase].as_ref()) else {
            return Ok(None);
        };
        let slot = index.of_candidates(step, position);
        let place = index.places[slot];
        let mut scratch = Vec::new();
        self.source
            .append(place.offset, place.bytes as usize, &mut scratch)
            .map_err(|error| files::unreadable(origin, error))?;
        let refuse = |unreadable| self.refuse(place, unreadable, origin);
        let token_ids = text::ids(&scratch, k).map_err(refuse)?;
        if let Some(problem) = validate::candidates(&token_ids, vocab_size) {
            return Err(refuse(Unreadable { at: 0, problem }));
        }
        scratch.clear();
        self.values(index, slot + 1, (Dtype::F32, true), k * 4, origin, &mut scratch)?;
        let log_probs = scratch.chunks_exact(4).map(|word| Dtype::F32.decode(word, 0)).collect();
        Ok(Some(Candidates { token_ids, log_probs }))
    }

    /// Puts the `size` bytes of a row into `scratch`. Among log-probabilities, a `null` of which no bits are listed is a
    /// value that the recorder did not have: −∞.
    fn values(
        &self,
        index: &Index,
        slot: usize,
        (dtype, log_probs): (Dtype, bool),
        size: usize,
        origin: &Path,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let place = index.places[slot];
        let unreadable = |error: io::Error| files::unreadable(origin, error);
        // The values go before the text that they are read from, which then goes.
        scratch.clear();
        scratch.resize(size, 0);
        self.source.append(place.offset, place.bytes as usize, scratch).map_err(unreadable)?;
        let (values, row) = scratch.split_at_mut(size);
        let patterns = index.patterns.get(&slot).map_or(&[][..], Vec::as_slice);
        let missing = (log_probs && patterns.is_empty()).then_some(f32::NEG_INFINITY);
        text::values(row, dtype, (patterns, missing), values)
            .map_err(|unreadable| self.refuse(place, unreadable, origin))?;
        scratch.truncate(size);
        Ok(())
    }

    fn refuse(&self, place: Place, unreadable: Unreadable, origin: &Path) -> EvidenceError {
        let Unreadable { at, problem } = unreadable;
        let broken = Broken { offset: place.offset + at as u64, problem, remedy: COPY_AGAIN };
        explain(Stop::Broken(broken), &self.source, origin)
    }
}
