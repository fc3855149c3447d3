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

pub(super) fn run(wire: ReadRun) -> Flawed<Run> {
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
    let decode: Vec<WireSignals> = steps.into_iter().map(signals).collect();
    let mut run = Run {
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
    let Some(extras) = extras else {
        run.prefill = wire.prefill.map(|prefill| inferred(vec![prefill], Phase::Prefill)).transpose()?;
        run.decode = (!decode.is_empty()).then(|| inferred(decode, Phase::Decode)).transpose()?;
        return Ok(run);
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
    let prefill: Vec<_> = wire.prefill.into_iter().collect();
    run.prefill = recorded(prefill, layout.prefill.as_ref(), Phase::Prefill)?;
    run.decode = recorded(decode, layout.decode.as_ref(), Phase::Decode)?;
    fill(&mut run, extras)?;
    Ok(run)
}

/// Moves what a run's `mantissa` object states into `run`, whose signals are complete, and checks its digests.
fn fill(run: &mut Run, extras: RunExtras) -> Flawed<()> {
    check_digests(run, &extras)?;
    run.reference_id = extras.reference_id;
    run.prompt_label = extras.prompt_label;
    run.prompt_token_ids = extras.prompt_token_ids;
    run.output_token_ids = extras.output_token_ids;
    run.output_token_texts = extras.output_token_texts;
    run.neighbours = extras.neighbours;
    run.prompt_source = extras.prompt_source;
    Ok(())
}

/// Checks what a run's `mantissa` object states about its ids and about the signals of `run`.
pub(crate) fn check_digests(run: &Run, extras: &RunExtras) -> Flawed<()> {
    let digests = [
        ("prompt_ids_digest", extras.prompt_ids_digest, Digest::of_ids(&extras.prompt_token_ids)),
        ("output_ids_digest", extras.output_ids_digest, Digest::of_ids(&extras.output_token_ids)),
        ("signals_digest", extras.signals_digest, run.signals_digest()),
    ];
    for (name, stated, found) in digests {
        if stated != found {
            let problem = format!("states {stated}, the data has {found}");
            return Err(Flaw::new(format!("mantissa.{name}"), problem, RECORD_AGAIN));
        }
    }
    Ok(())
}

fn signals(step: WireStep) -> WireSignals {
    let WireStep { hidden_states, key_vectors, logprobs, sites, non_finite, .. } = step;
    WireSignals { hidden_states, key_vectors, logprobs, sites, non_finite }
}

/// A phase whose layout the file states.
fn recorded(
    steps: Vec<WireSignals>,
    layout: Option<&PhaseLayout>,
    phase: Phase,
) -> Flawed<Option<PhaseSignals>> {
    let stated = layout.map_or(0, |layout| layout.steps);
    if stated != steps.len() {
        let problem = format!("mantissa.signals states {stated} steps, {} are there", steps.len());
        return Err(Flaw::new(phase.name(), problem, RECORD_AGAIN));
    }
    let rows = rows(steps, phase)?;
    layout.map(|layout| assemble(rows, layout, phase)).transpose()
}

/// A phase of a file that follows the plan and no more: values are taken as f32, shapes from the first step.
fn inferred(steps: Vec<WireSignals>, phase: Phase) -> Flawed<PhaseSignals> {
    let rows = rows(steps, phase)?;
    let first = &rows[0];
    let positions = first.tensors.values().next().map(|rows| rows.0.keys());
    let positions = positions.map(|keys| keys.map(|key| key.0).collect());
    let positions: Vec<i32> = positions.unwrap_or_else(|| first.logprobs.0.keys().map(|key| key.0).collect());
    let tensors = first.tensors.iter().map(|(&site, rows)| {
        let dim = rows.0.values().next().map_or(0, |row| row.0.len());
        (site, TensorLayout { dtype: Dtype::F32, dim })
    });
    let k = first.logprobs.0.values().next().map(|top| top.token_ids.len());
    let layout = PhaseLayout {
        first_step: 0,
        steps: rows.len(),
        positions,
        tensors: Unique(tensors.collect()),
        logprobs: k.map(|k| LogprobsLayout { k, vocab_size: None }),
    };
    assemble(rows, &layout, phase)
}

/// One step with its rows gathered by site.
struct Step {
    tensors: BTreeMap<Site, Rows>,
    logprobs: Unique<PosKey, TopK>,
    non_finite: NonFinite,
}

fn rows(steps: Vec<WireSignals>, phase: Phase) -> Flawed<Vec<Step>> {
    let steps = steps.into_iter().enumerate().map(|(index, wire)| {
        let mut tensors = BTreeMap::new();
        let mut gather = |name: &str, point: Point, layers: Layers| {
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

fn assemble(steps: Vec<Step>, layout: &PhaseLayout, phase: Phase) -> Flawed<PhaseSignals> {
    let mut data: BTreeMap<Site, Vec<u8>> = layout.tensors.0.keys().map(|&site| (site, Vec::new())).collect();
    let (mut token_ids, mut log_probs) = (Vec::new(), Vec::new());
    for (index, step) in steps.into_iter().enumerate() {
        append(step, layout, &mut data, &mut token_ids, &mut log_probs)
            .map_err(|flaw| flaw.under(&step_place(phase, index)))?;
    }
    let positions = layout.positions.len();
    let tensors = data.into_iter().zip(layout.tensors.0.values()).map(|((site, data), tensor)| {
        (site, SignalTensor { dtype: tensor.dtype, shape: [layout.steps, positions, tensor.dim], data })
    });
    let logprobs = layout.logprobs.map(|LogprobsLayout { k, vocab_size }| Logprobs {
        steps: layout.steps,
        positions,
        k,
        vocab_size,
        token_ids,
        log_probs,
    });
    Ok(PhaseSignals {
        first_step: layout.first_step,
        steps: layout.steps,
        positions: layout.positions.clone(),
        tensors: tensors.collect(),
        logprobs,
    })
}

/// Appends the rows of one step to the tensors they belong to.
fn append(
    step: Step,
    layout: &PhaseLayout,
    data: &mut BTreeMap<Site, Vec<u8>>,
    token_ids: &mut Vec<u32>,
    log_probs: &mut Vec<f32>,
) -> Flawed<()> {
    let Step { tensors, logprobs, mut non_finite } = step;
    if let Some(site) = tensors.keys().find(|site| !layout.tensors.0.contains_key(site)) {
        return Err(Flaw::new(site.to_string(), "is not in the layout or in the first step", RECORD_AGAIN));
    }
    for (site, out) in data {
        let missing = || Flaw::new(site.to_string(), "is missing", RECORD_AGAIN);
        let rows = tensors.get(site).ok_or_else(missing)?;
        same_positions(&site.to_string(), rows, &layout.positions)?;
        let TensorLayout { dtype, dim } = layout.tensors.0[site];
        for (&position, row) in &rows.0 {
            let bits = take(&mut non_finite, &site.to_string(), position);
            encode(row, &bits, dtype, dim, out).map_err(|flaw| flaw.under(&format!("{site}.{position}")))?;
        }
    }
    match layout.logprobs {
        Some(LogprobsLayout { k, .. }) => {
            same_positions(LOGPROBS, &logprobs, &layout.positions)?;
            for (position, top) in logprobs.0 {
                let place = format!("{LOGPROBS}.{position}");
                let mut bytes = Vec::new();
                let bits = take(&mut non_finite, LOGPROBS, position);
                encode(&top.log_probs, &bits, Dtype::F32, k, &mut bytes)
                    .map_err(|flaw| flaw.under(&place))?;
                if top.token_ids.len() != k {
                    let problem = format!("{} token_ids instead of {k}", top.token_ids.len());
                    return Err(Flaw::new(place, problem, RECORD_AGAIN));
                }
                token_ids.extend_from_slice(&top.token_ids);
                let words = bytes.chunks_exact(4).map(|word| Dtype::F32.decode(word, 0));
                log_probs.extend(words);
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

fn same_positions<T>(name: &str, rows: &Unique<PosKey, T>, positions: &[i32]) -> Flawed<()> {
    if rows.0.keys().map(|key| key.0).eq(positions.iter().copied()) {
        return Ok(());
    }
    let keys: Vec<String> = rows.0.keys().take(8).map(ToString::to_string).collect();
    let problem = format!("has [{}] instead of the positions of the phase", keys.join(", "));
    Err(Flaw::new(name, problem, RECORD_AGAIN))
}

fn take(non_finite: &mut NonFinite, name: &str, position: PosKey) -> Bits {
    non_finite.0.get_mut(name).and_then(|rows| rows.0.remove(&position)).unwrap_or_default()
}

/// Appends a row in its storage format; each `null` takes its listed bits.
fn encode(row: &Values, bits: &Bits, dtype: Dtype, dim: usize, out: &mut Vec<u8>) -> Flawed<()> {
    let flaw = |problem: String| Err(Flaw::new("values", problem, RECORD_AGAIN));
    if row.0.len() != dim {
        return flaw(format!("{} values instead of {dim}", row.0.len()));
    }
    if bits.indices.len() != bits.bits.len() {
        return flaw(format!("non_finite lists {} indices and {} bits", bits.indices.len(), bits.bits.len()));
    }
    let mut listed = bits.indices.iter().zip(&bits.bits);
    for (i, &value) in row.0.iter().enumerate() {
        if value.is_finite() {
            if dtype.round(value).to_bits() != value.to_bits() {
                return flaw(format!("value {i}, {value:e}, is not a {dtype} number"));
            }
            dtype.encode(value, out);
            continue;
        }
        let Some((_, hex)) = listed.next().filter(|(index, _)| **index == i) else {
            return flaw(format!("value {i} is null and its bits are not listed under non_finite"));
        };
        let digits = dtype.size() * 2;
        let pattern = Some(hex).filter(|hex| hex.len() == digits && !hex.starts_with('+'));
        let Some(pattern) = pattern.and_then(|hex| u32::from_str_radix(hex, 16).ok()) else {
            return flaw(format!("bits of value {i} are not {digits} hexadecimal digits"));
        };
        let start = out.len();
        out.extend_from_slice(&pattern.to_le_bytes()[..dtype.size()]);
        if dtype.decode(&out[start..], 0).is_finite() {
            return flaw(format!("bits of value {i} are those of a finite number"));
        }
    }
    match listed.next() {
        None => Ok(()),
        Some((index, _)) => {
            flaw(format!("non_finite lists value {index}, which is not null or out of order"))
        }
    }
}
