//! From the JSON shape of a run to the run: every row in its place, every bit accounted for.

use std::collections::BTreeMap;

use mantissa_numerics::{Dtype, Phase, Point, Site};

use super::emit::{LOGPROBS, site};
use super::keys::PosKey;
use super::wire::{
    Bits, Layers, LogprobsLayout, NonFinite, PhaseLayout, ReadRun, Rows, RunExtras, TensorLayout, TopK,
    Values, WireSignals, WireStep,
};
use crate::digest::Digest;
use crate::error::Flaw;
use crate::run::{Logprobs, PhaseSignals, Run, SignalTensor};
use crate::strict::Unique;

const RECORD_AGAIN: &str = "restore the file or record it again";
const CORRECT: &str = "correct it as docs/format/experiment-json.md says";

type Flawed<T> = Result<T, Flaw>;

/// Takes the rows of one phase, steps ascending; within one sites, then candidates, positions ascending within each.
pub(crate) trait Sink {
    /// A row of values as the file was read.
    type Row;
    /// A row of token ids.
    type Ids;

    /// Values of a row.
    fn width(row: &Self::Row, context: &Self::Context) -> usize;
    /// What tells the width of rows that are not there yet.
    type Context;

    /// A sink for a phase of this layout.
    fn new(layout: &PhaseLayout) -> Self;

    /// Takes a row of a site.
    fn row(
        &mut self,
        site: Site,
        row: Self::Row,
        bits: &Bits,
        layout: TensorLayout,
        context: &Self::Context,
    ) -> Flawed<()>;

    /// Takes the `k` candidates of a position.
    fn candidates(
        &mut self,
        top: TopK<Self::Row, Self::Ids>,
        bits: &Bits,
        k: usize,
        context: &Self::Context,
    ) -> Flawed<()>;
}

/// A run whose signals went into sinks: prefill, decode.
pub(crate) struct Placed<K> {
    /// The run without signals and without what `extras` states.
    pub(crate) run: Run,
    pub(crate) phases: [Option<(PhaseLayout, K)>; 2],
    pub(crate) extras: Option<RunExtras>,
}

/// A run, and what is not as its digests say.
pub(super) fn run(wire: ReadRun) -> Flawed<(Run, Vec<Flaw>)> {
    let Placed { mut run, phases, extras } = place::<Tensors>(wire, &())?;
    let [prefill, decode] = phases.map(|phase| phase.map(|(layout, tensors)| tensors.signals(&layout)));
    (run.prefill, run.decode) = (prefill, decode);
    let mut damage = Vec::new();
    if let Some(extras) = extras {
        damage = damage_of(&run, &extras);
        fill(&mut run, extras);
    }
    Ok((run, damage))
}

/// Puts every row of a run in its place.
pub(crate) fn place<K: Sink>(wire: ReadRun<K::Row, K::Ids>, context: &K::Context) -> Flawed<Placed<K>> {
    let (extras, steps) = (wire.mantissa, wire.decode_steps);
    let token_ids: Vec<u32> = steps.iter().map(|step| step.token_id).collect();
    let token_texts: Vec<String> = steps.iter().filter_map(|step| step.token_text.clone()).collect();
    let layout = extras.as_ref().and_then(|extras| extras.signals.decode.as_ref());
    let first_step = layout.map_or(0, |layout| layout.first_step);
    if let Some((i, found)) =
        (0..).zip(&steps).find(|(i, found)| first_step.checked_add(*i) != Some(found.step))
    {
        return Err(Flaw::new(
            format!("decode_steps[{i}].step"),
            format!("is {}", found.step),
            if first_step == 0 { "number steps from 0" } else { "number steps from mantissa's first_step" },
        ));
    }
    if !token_texts.is_empty() && token_texts.len() != steps.len() {
        return Err(Flaw::new("decode_steps", "token_text is missing from some steps", CORRECT));
    }
    let decode: Vec<_> = steps.into_iter().map(signals).collect();
    let run = Run {
        config_id: wire.config_id,
        rep_id: wire.rep_id,
        reference_id: 0,
        timestamp: wire.timestamp,
        runtime_seconds: wire.runtime_seconds,
        prompt_text: wire.prompt_text,
        prompt_label: None,
        prompt_token_ids: Vec::new(),
        output_token_ids: token_ids,
        output_token_texts: token_texts,
        neighbours: Vec::new(),
        prompt_source: None,
        prefill: None,
        decode: None,
    };
    let prefill: Vec<_> = wire.prefill.into_iter().collect();
    let Some(extras) = extras else {
        let phases = [inferred(prefill, Phase::Prefill, context)?, inferred(decode, Phase::Decode, context)?];
        return Ok(Placed { run, phases, extras: None });
    };
    let texts = &extras.output_token_texts;
    let consumed = usize::try_from(first_step).unwrap_or(usize::MAX);
    let ids_fit = extras.output_token_ids.get(consumed..);
    let ids_fit = decode.is_empty() || ids_fit.is_some_and(|ids| ids.starts_with(&run.output_token_ids));
    let texts_fit = run.output_token_texts.is_empty()
        || texts.get(consumed..).is_some_and(|texts| texts.starts_with(&run.output_token_texts));
    if !ids_fit
        || !texts_fit
        || (!decode.is_empty() && !texts.is_empty() && run.output_token_texts.is_empty())
    {
        let problem =
            "token_id or token_text differs from mantissa.output_token_ids or mantissa.output_token_texts";
        return Err(Flaw::new("decode_steps", problem, RECORD_AGAIN));
    }
    let layout = &extras.signals;
    let phases = [
        recorded(prefill, layout.prefill.as_ref(), Phase::Prefill, context)?,
        recorded(decode, layout.decode.as_ref(), Phase::Decode, context)?,
    ];
    Ok(Placed { run, phases, extras: Some(extras) })
}

/// Moves what a run's `mantissa` object states into `run`.
pub(crate) fn fill(run: &mut Run, extras: RunExtras) {
    run.reference_id = extras.reference_id;
    run.prompt_label = extras.prompt_label;
    run.prompt_token_ids = extras.prompt_token_ids;
    run.output_token_ids = extras.output_token_ids;
    run.output_token_texts = extras.output_token_texts;
    run.neighbours = extras.neighbours;
    run.prompt_source = extras.prompt_source;
}

/// What of a run is not as its `mantissa` object states: ids, and the signals of `run`.
pub(crate) fn damage_of(run: &Run, extras: &RunExtras) -> Vec<Flaw> {
    let mut damage = damage_of_ids(extras);
    damage.extend(check_digest("signals_digest", extras.signals_digest, run.signals_digest()).err());
    damage
}

/// What of a run's ids is not as its `mantissa` object states.
pub(crate) fn damage_of_ids(extras: &RunExtras) -> Vec<Flaw> {
    let prompt = Digest::of_ids(&extras.prompt_token_ids);
    let output = Digest::of_ids(&extras.output_token_ids);
    let checks = [
        check_digest("prompt_ids_digest", extras.prompt_ids_digest, prompt),
        check_digest("output_ids_digest", extras.output_ids_digest, output),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}

/// Checks one of the digests under `mantissa`.
pub(crate) fn check_digest(name: &str, stated: Digest, found: Digest) -> Flawed<()> {
    if stated == found {
        return Ok(());
    }
    let problem = format!("states {stated}, the data has {found}");
    Err(Flaw::altered(format!("mantissa.{name}"), problem, RECORD_AGAIN))
}

fn signals<V, I>(step: WireStep<V, I>) -> WireSignals<V, I> {
    let WireStep { hidden_states, key_vectors, logprobs, sites, non_finite, .. } = step;
    WireSignals { hidden_states, key_vectors, logprobs, sites, non_finite }
}

type Phased<K> = Flawed<Option<(PhaseLayout, K)>>;

/// A phase whose layout the file states.
fn recorded<K: Sink>(
    steps: Vec<WireSignals<K::Row, K::Ids>>,
    layout: Option<&PhaseLayout>,
    phase: Phase,
    context: &K::Context,
) -> Phased<K> {
    let stated = layout.map_or(0, |layout| layout.steps);
    if stated != steps.len() {
        let problem = format!("mantissa.signals states {stated} steps, {} are there", steps.len());
        return Err(Flaw::new(phase.name(), problem, RECORD_AGAIN));
    }
    let rows = rows(steps, phase)?;
    let Some(layout) = layout else { return Ok(None) };
    Ok(Some((layout.clone(), assemble(rows, layout, phase, context)?)))
}

/// A phase of a file that follows the plan and no more: values are taken as f32, shapes from the first step.
fn inferred<K: Sink>(
    steps: Vec<WireSignals<K::Row, K::Ids>>,
    phase: Phase,
    context: &K::Context,
) -> Phased<K> {
    let rows = rows(steps, phase)?;
    let Some(first) = rows.first() else { return Ok(None) };
    let positions = first.tensors.values().next().map(|rows| rows.0.keys());
    let positions = positions.map(|keys| keys.map(|key| key.0).collect());
    let positions: Vec<i32> = positions.unwrap_or_else(|| first.logprobs.0.keys().map(|key| key.0).collect());
    let tensors = first.tensors.iter().map(|(&site, rows)| {
        let dim = rows.0.values().next().map_or(0, |row| K::width(row, context));
        (site, TensorLayout { dtype: Dtype::F32, dim })
    });
    let k = first.logprobs.0.values().next().map(|top| K::width(&top.log_probs, context));
    let layout = PhaseLayout {
        first_step: 0,
        steps: rows.len(),
        positions,
        tensors: Unique(tensors.collect()),
        logprobs: k.map(|k| LogprobsLayout { k, vocab_size: None }),
    };
    let placed = assemble(rows, &layout, phase, context)?;
    Ok(Some((layout, placed)))
}

/// One step with its rows gathered by site.
struct Step<V, I> {
    tensors: BTreeMap<Site, Rows<V>>,
    logprobs: Unique<PosKey, TopK<V, I>>,
    non_finite: NonFinite,
}

fn rows<V, I>(steps: Vec<WireSignals<V, I>>, phase: Phase) -> Flawed<Vec<Step<V, I>>> {
    let steps = steps.into_iter().enumerate().map(|(index, wire)| {
        let mut tensors = BTreeMap::new();
        let mut gather = |name: &str, point: Point, layers: Layers<V>| {
            for (key, rows) in layers.0 {
                let place = || format!("{}.{name}.{key}", step_place(phase, index));
                let site = site(point, key)
                    .ok_or_else(|| Flaw::new(place(), "is not a site of this point", CORRECT))?;
                if tensors.insert(site, rows).is_some() {
                    return Err(Flaw::new(place(), format!("the site {site} appears twice"), CORRECT));
                }
            }
            Ok(())
        };
        gather("hidden_states", Point::XOut, wire.hidden_states)?;
        gather("key_vectors", Point::K, wire.key_vectors)?;
        for (point, layers) in wire.sites.0 {
            gather(&format!("sites.{point}"), point, layers)?;
        }
        Ok(Step { tensors, logprobs: wire.logprobs, non_finite: wire.non_finite })
    });
    steps.collect()
}

fn step_place(phase: Phase, step: usize) -> String {
    match phase {
        Phase::Prefill => "prefill".to_owned(),
        Phase::Decode => format!("decode_steps[{step}]"),
    }
}

fn assemble<K: Sink>(
    steps: Vec<Step<K::Row, K::Ids>>,
    layout: &PhaseLayout,
    phase: Phase,
    context: &K::Context,
) -> Flawed<K> {
    let mut sink = K::new(layout);
    for (index, step) in steps.into_iter().enumerate() {
        append(step, layout, &mut sink, context).map_err(|flaw| flaw.under(&step_place(phase, index)))?;
    }
    Ok(sink)
}

/// Hands the rows of one step to the sink.
fn append<K: Sink>(
    step: Step<K::Row, K::Ids>,
    layout: &PhaseLayout,
    sink: &mut K,
    context: &K::Context,
) -> Flawed<()> {
    let Step { mut tensors, logprobs, mut non_finite } = step;
    if let Some(site) = tensors.keys().find(|site| !layout.tensors.0.contains_key(site)) {
        return Err(Flaw::new(site.to_string(), "is not in the layout or in the first step", RECORD_AGAIN));
    }
    for (&site, &tensor) in &layout.tensors.0 {
        let missing = || Flaw::new(site.to_string(), "is missing", RECORD_AGAIN);
        let rows = tensors.remove(&site).ok_or_else(missing)?;
        same_positions(&site.to_string(), &rows, &layout.positions)?;
        for (position, row) in rows.0 {
            let bits = take(&mut non_finite, &site, position);
            sink.row(site, row, &bits, tensor, context)
                .map_err(|flaw| flaw.under(&format!("{site}.{position}")))?;
        }
    }
    match layout.logprobs {
        Some(LogprobsLayout { k, .. }) => {
            same_positions(LOGPROBS, &logprobs, &layout.positions)?;
            for (position, top) in logprobs.0 {
                let bits = take(&mut non_finite, &LOGPROBS, position);
                sink.candidates(top, &bits, k, context)
                    .map_err(|flaw| flaw.under(&format!("{LOGPROBS}.{position}")))?;
            }
        }
        None if logprobs.is_empty() => (),
        None => return Err(Flaw::new(LOGPROBS, "are not in the layout or in the first step", RECORD_AGAIN)),
    }
    let left = non_finite.0.iter().find(|(_, rows)| !rows.is_empty());
    left.map_or(Ok(()), |(name, _)| {
        Err(Flaw::new(format!("non_finite.{name}"), "names no recorded row", RECORD_AGAIN))
    })
}

/// Checks that a position has `k` ids.
pub(crate) fn check_ids(found: usize, k: usize) -> Flawed<()> {
    if found == k {
        return Ok(());
    }
    Err(Flaw::new("token_ids", format!("{found} token_ids instead of {k}"), RECORD_AGAIN))
}

/// Signals of one phase in memory.
struct Tensors {
    data: BTreeMap<Site, Vec<u8>>,
    token_ids: Vec<u32>,
    log_probs: Vec<f32>,
}

impl Sink for Tensors {
    type Row = Values;
    type Ids = Vec<u32>;
    type Context = ();

    fn width(row: &Values, (): &()) -> usize {
        row.0.len()
    }

    fn new(layout: &PhaseLayout) -> Self {
        let data = layout.tensors.0.keys().map(|&site| (site, Vec::new())).collect();
        Self { data, token_ids: Vec::new(), log_probs: Vec::new() }
    }

    fn row(&mut self, site: Site, row: Values, bits: &Bits, layout: TensorLayout, (): &()) -> Flawed<()> {
        let TensorLayout { dtype, dim } = layout;
        encode(&row, bits, (dtype, None), dim, self.data.entry(site).or_default())
    }

    fn candidates(&mut self, top: TopK, bits: &Bits, k: usize, (): &()) -> Flawed<()> {
        let mut bytes = Vec::new();
        encode(&top.log_probs, bits, (Dtype::F32, missing(bits)), k, &mut bytes)?;
        check_ids(top.token_ids.len(), k)?;
        self.token_ids.extend_from_slice(&top.token_ids);
        self.log_probs.extend(bytes.chunks_exact(4).map(|word| Dtype::F32.decode(word, 0)));
        Ok(())
    }
}

impl Tensors {
    fn signals(self, layout: &PhaseLayout) -> PhaseSignals {
        let (steps, positions) = (layout.steps, layout.positions.len());
        let tensors = self.data.into_iter().zip(layout.tensors.0.values()).map(|((site, data), tensor)| {
            (site, SignalTensor { dtype: tensor.dtype, shape: [steps, positions, tensor.dim], data })
        });
        PhaseSignals {
            first_step: layout.first_step,
            steps,
            positions: layout.positions.clone(),
            tensors: tensors.collect(),
            logprobs: layout.logprobs.map(|LogprobsLayout { k, vocab_size }| Logprobs {
                steps,
                positions,
                k,
                vocab_size,
                token_ids: self.token_ids,
                log_probs: self.log_probs,
            }),
        }
    }
}

fn same_positions<T>(name: &str, rows: &Unique<PosKey, T>, positions: &[i32]) -> Flawed<()> {
    if rows.0.keys().map(|key| key.0).eq(positions.iter().copied()) {
        return Ok(());
    }
    let keys: Vec<String> = rows.0.keys().take(8).map(ToString::to_string).collect();
    let problem = format!("has [{}] instead of the positions of the phase", keys.join(", "));
    Err(Flaw::new(name, problem, RECORD_AGAIN))
}

fn take(non_finite: &mut NonFinite, name: &impl ToString, position: PosKey) -> Bits {
    if non_finite.is_empty() {
        return Bits::default();
    }
    non_finite.0.get_mut(&name.to_string()).and_then(|rows| rows.0.remove(&position)).unwrap_or_default()
}

/// What a `null` among log-probabilities means where no bits are listed: the recorder had none.
pub(crate) fn missing(bits: &Bits) -> Option<f32> {
    bits.indices.is_empty().then_some(f32::NEG_INFINITY)
}

/// Appends a row in its storage format; each `null` takes its listed bits, or `missing` where none are.
fn encode(
    row: &Values,
    bits: &Bits,
    (dtype, missing): (Dtype, Option<f32>),
    dim: usize,
    out: &mut Vec<u8>,
) -> Flawed<()> {
    let flaw = |problem: String| Err(Flaw::new("values", problem, RECORD_AGAIN));
    check_width(row.0.len(), dim)?;
    let bits = patterns(bits, dtype)?;
    let mut listed = bits.iter();
    for (i, &value) in row.0.iter().enumerate() {
        if value.is_finite() {
            if dtype.round(value).to_bits() != value.to_bits() {
                return flaw(not_a_number_of(dtype, i, value));
            }
            dtype.encode(value, out);
            continue;
        }
        if let Some(missing) = missing {
            dtype.encode(missing, out);
            continue;
        }
        let Some((_, pattern)) = listed.next().filter(|(index, _)| *index == i) else {
            return flaw(format!("value {i} is null and its bits are not listed under non_finite"));
        };
        out.extend_from_slice(&pattern.to_le_bytes()[..dtype.size()]);
    }
    match listed.next() {
        None => Ok(()),
        Some((index, _)) => {
            flaw(format!("non_finite lists value {index}, which is not null or out of order"))
        }
    }
}

/// Checks the number of values of a row.
pub(crate) fn check_width(found: usize, dim: usize) -> Flawed<()> {
    if found == dim {
        return Ok(());
    }
    Err(Flaw::new("values", format!("{found} values instead of {dim}"), RECORD_AGAIN))
}

/// What is wrong with a value that a row's format does not have.
pub(crate) fn not_a_number_of(dtype: Dtype, index: usize, value: f32) -> String {
    format!("value {index}, {value:e}, is not a {dtype} number")
}

/// Place and bit pattern of each value that stands as `null`.
pub(crate) fn patterns(bits: &Bits, dtype: Dtype) -> Flawed<Vec<(usize, u32)>> {
    let flaw = |problem: String| Err(Flaw::new("values", problem, RECORD_AGAIN));
    if bits.indices.len() != bits.bits.len() {
        return flaw(format!("non_finite lists {} indices and {} bits", bits.indices.len(), bits.bits.len()));
    }
    let digits = dtype.size() * 2;
    let mut patterns = Vec::with_capacity(bits.bits.len());
    for (&index, hex) in bits.indices.iter().zip(&bits.bits) {
        let pattern = Some(hex).filter(|hex| hex.len() == digits && !hex.starts_with('+'));
        let Some(pattern) = pattern.and_then(|hex| u32::from_str_radix(hex, 16).ok()) else {
            return flaw(format!("bits of value {index} are not {digits} hexadecimal digits"));
        };
        if dtype.decode(&pattern.to_le_bytes()[..dtype.size()], 0).is_finite() {
            return flaw(format!("bits of value {index} are those of a finite number"));
        }
        patterns.push((index, pattern));
    }
    Ok(patterns)
}
