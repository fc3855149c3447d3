//! Two traces: rows paired by prompt, token position and site, and told apart by their hashes alone.
//!
//! A row of which another program printed some digits is compared by these: they can differ, and cannot be equal.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::trace::{RecordedTrace, StageTrace, TensorReader, Trace, TraceHash};
use mantissa_evidence::{EvidenceError, Record};
use mantissa_numerics::{Dtype, Phase, Site};
use mantissa_verdict::drift::{Drift, DriftAnswer, DriftCounts, DriftPair, DriftPlace, DriftSide};

use super::fault::DriftFault;
use crate::error::LabError;

/// A trace, and which of its events are meant.
///
/// Example: [`drift_of_traces`].
#[derive(Debug, Clone, Copy)]
pub struct TracedSide<'t> {
    /// What it is called.
    pub name: &'t str,
    /// The events.
    pub trace: &'t Trace,
    /// Those of one phase alone.
    pub phase: Option<Phase>,
    /// Its file, if values may stand beside it.
    pub path: Option<&'t Path>,
}

/// A row of a trace.
struct Row<'t> {
    event: &'t StageTrace,
    hash: Option<TraceHash>,
    token: Option<u32>,
}

type Rows<'t> = BTreeMap<(usize, Site), Row<'t>>;

/// The events of a configuration of a record, as a trace.
///
/// *Errors:* a run without prompt ids, a row that cannot be read.
///
/// ```
/// use mantissa_evidence::Record;
/// use mantissa_lab::drift::{TracedSide, configuration, drift_of_traces, traced};
///
/// let record = Record::open("../../goldens/gpu/evidence_h200".as_ref())?;
/// let trace = traced(&record, &configuration(&record, Some("h200_bs1_eager_bf16"))?)?;
/// let side = TracedSide { name: "evidence", trace: &trace, phase: None, path: None };
/// let found = drift_of_traces([side, side])?;
/// assert!(found.counts.pairs > 0 && found.counts.equal == found.counts.pairs);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn traced(record: &Record, config: &str) -> Result<Trace, LabError> {
    let recorded = RecordedTrace::new(record, config, None)?;
    let mut events = Vec::new();
    recorded.events(false, &mut |event, _| {
        events.push(event);
        Ok::<(), EvidenceError>(())
    })?;
    Ok(Trace { header: Some(recorded.header("mantissa")), events, has_end: true })
}

/// Compares two traces. Hashes say whether rows are equal, and nothing of why they are not.
///
/// *Errors:* no prompt that both have.
///
/// ```
/// use mantissa_evidence::trace::Trace;
/// use mantissa_lab::drift::{TracedSide, drift_of_traces};
/// use mantissa_numerics::Phase;
///
/// let event = |phase: &str, step: u64, hash: u64| {
///     format!(
///         "{{\"event\":\"stage_trace\",\"prompt_id\":\"p0\",\"phase\":\"{phase}\",\"point\":\"attn_out\",\
///          \"layer\":0,\"step\":{step},\"pos_id\":37,\"seq_len\":38,\"hash\":{hash},\
///          \"min\":0,\"max\":1,\"mean\":0}}\n"
///     )
/// };
/// // As the events of a report that compares a prefill's last row with the same token decoded.
/// let text = event("prefill_last", 0, 4144761570523161186) + &event("decode0", 1, 10153995460507501903);
/// let trace = Trace::from_reader(text.as_bytes(), "b366.jsonl".as_ref())?;
/// let side = |name, phase| TracedSide { name, trace: &trace, phase: Some(phase), path: None };
/// let found = drift_of_traces([side("prefill", Phase::Prefill), side("decode", Phase::Decode)])?;
/// assert_eq!((found.counts.pairs, found.counts.equal), (1, 0));
/// assert_eq!(found.first.expect("a difference").position, 37);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn drift_of_traces(sides: [TracedSide<'_>; 2]) -> Result<Drift, LabError> {
    let [a, b] = sides.map(rows);
    let mut pairs = Vec::new();
    let mut left_out = DriftCounts::default();
    let (mut shared, mut agreeing) = (false, 0_u64);
    let mut readers = sides.map(|side| side.path.map(TensorReader::beside));
    for (prompt, of_a) in &a {
        let Some(of_b) = partner(sides, prompt, &b) else { continue };
        shared = true;
        // The first position whose tokens are known and differ.
        let other = of_a.iter().find(|(key, row)| {
            let beside = of_b.get(key).and_then(|row| row.token);
            row.token.zip(beside).is_some_and(|(a, b)| a != b)
        });
        let other = other.map(|((position, _), _)| *position);
        for (key @ (position, site), row) in of_a {
            if other.is_some_and(|other| *position >= other) {
                left_out.other_tokens += 1;
                continue;
            }
            let Some(beside) = of_b.get(key) else {
                left_out.missing += 1;
                continue;
            };
            let formats = row.event.dtype.zip(beside.event.dtype);
            let comparable = formats.is_none_or(|(a, b): (Dtype, Dtype)| a == b);
            let hashes = row.hash.zip(beside.hash).filter(|_| comparable);
            let same = hashes.and_then(|(a, b)| a.same(b));
            let digits = match same {
                Some(_) => None,
                None => digits([row.event, beside.event], *position as u64, &mut readers)?,
            };
            let Some(same) = same.or_else(|| digits.is_some_and(|differing| differing > 0).then_some(false))
            else {
                agreeing += u64::from(digits.is_some());
                left_out.incomparable += 1;
                continue;
            };
            pairs.push(DriftPair {
                place: DriftPlace {
                    prompt: (*prompt).to_owned(),
                    position: *position as u64,
                    layer: site.layer,
                    point: site.point,
                },
                phases: [row.event.phase, beside.event.phase],
                steps: [row.event.step, beside.event.step],
                answer: if same { DriftAnswer::Equal } else { DriftAnswer::NotLocalized },
                arrived: false,
                differing: if same { Some(0) } else { digits },
                width: row.event.shape.map_or(0, |[_, width]| width),
                distance: same.then_some(0.0),
                relative: same.then_some(0.0),
                deviation: None,
                bound: None,
                spread: None,
                smallest: None,
            });
        }
        let missing =
            |key: &&(usize, Site)| other.is_none_or(|other| key.0 < other) && !of_a.contains_key(key);
        left_out.missing_in_a += of_b.keys().filter(missing).count() as u64;
    }
    if !shared {
        let [a, b] = sides.map(|side| side.name.to_owned());
        return Err(DriftFault::OtherPrompts { a, b }.into());
    }
    let named = sides.map(|side| DriftSide {
        name: side.name.to_owned(),
        setup: side.phase.map_or("a trace", Phase::name).to_owned(),
        digest: None,
        reproduced: None,
    });
    let mut found = Drift::of(named, pairs, left_out);
    let note = "a trace holds hashes: which rows differ is known, and nothing of why; give records of all positions \
                and --model for that";
    found.notes.push(note.to_owned());
    if agreeing > 0 {
        found.notes.push(format!(
            "rows that agree in all digits that a program printed: {agreeing}; that does not make them equal, and they \
             are counted as not comparable"
        ));
    }
    Ok(found)
}

/// How many elements of a row differ in what was printed of it; `None` where nothing was that the other side has.
fn digits(
    events: [&StageTrace; 2],
    position: u64,
    readers: &mut [Option<TensorReader>; 2],
) -> Result<Option<u64>, LabError> {
    if let [Some(a), Some(b)] = events.map(|event| event.shown.as_ref()) {
        return Ok(a.beside(b, position).map(|(differing, _)| differing));
    }
    for (shown, other) in [(0, 1), (1, 0)] {
        let Some(printed) = events[shown].shown.as_ref().filter(|shown| shown.row(position).is_some()) else {
            continue;
        };
        let (Some(dtype), Some([_, width])) = (events[other].dtype, events[other].shape) else { continue };
        let Some(reader) = &mut readers[other] else { continue };
        let (Some(values), Ok(width)) = (reader.values(events[other])?, usize::try_from(width)) else {
            continue;
        };
        let Ok(row) = events[other].positions.binary_search(&position) else { continue };
        let value = |column: usize| {
            let index = row * width + column;
            (column < width).then(|| f64::from(dtype.decode(&values, index)))
        };
        return Ok(printed.differing(position, &value));
    }
    Ok(None)
}

/// Rows of each prompt.
fn rows(side: TracedSide<'_>) -> BTreeMap<&str, Rows<'_>> {
    let mut all: BTreeMap<&str, Rows<'_>> = BTreeMap::new();
    let events = side.trace.events.iter().filter(|event| side.phase.is_none_or(|phase| event.phase == phase));
    for event in events {
        let Some(site) = event.site() else { continue };
        for position in &event.positions {
            // One row is the whole tensor, also where another program hashed it alone.
            let whole = event.hash.filter(|_| event.positions.len() == 1);
            let hash = event.row_hash(*position).or(whole);
            if hash.is_none() && event.shown.is_none() {
                continue;
            }
            let Ok(place) = usize::try_from(*position) else { continue };
            let row = Row { event, hash, token: event.token(*position) };
            all.entry(&event.prompt_id).or_default().entry((place, site)).or_insert(row);
        }
    }
    all
}

/// The rows of the other side's prompt: of the same ids, or of the same name where ids are not known.
fn partner<'b, 't>(
    sides: [TracedSide<'_>; 2],
    prompt: &str,
    others: &'b BTreeMap<&'t str, Rows<'t>>,
) -> Option<&'b Rows<'t>> {
    let headers = sides.map(|side| side.trace.header.as_ref());
    let own = headers[0].and_then(|header| header.prompt(prompt)).map(|prompt| &prompt.token_ids);
    let (Some(own), Some(other)) = (own.filter(|ids| !ids.is_empty()), headers[1]) else {
        return others.get(prompt);
    };
    let shared = |ids: &[u32]| own.iter().zip(ids).take_while(|(a, b)| a == b).count();
    let best = other.prompts.iter().max_by_key(|prompt| shared(&prompt.token_ids))?;
    let enough = shared(&best.token_ids) + 1 >= own.len().min(best.token_ids.len());
    others.get(best.prompt_id.as_str()).filter(|_| enough)
}
