//! From a run in memory to its JSON shape, one step at a time.

use mantissa_numerics::{Dtype, LayerIdx, Point, Site};
use serde::{Serialize, Serializer};

use super::keys::{LayerKey, PosKey};
use super::wire::{Bits, RunExtras, TopK, Values, WireRun, WireSignals, WireStep};
use crate::experiment::{Experiment, ExperimentMetadata};
use crate::run::{PhaseSignals, Run};

/// The runs of an experiment, built while they are written.
pub(super) struct Runs<'a>(pub(super) &'a Experiment);

impl Serialize for Runs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let last_layer = last_layer(&self.0.metadata);
        serializer.collect_seq(self.0.runs.iter().map(|run| WireRun {
            config_id: run.config_id.clone(),
            rep_id: run.rep_id,
            timestamp: run.timestamp.clone(),
            runtime_seconds: run.runtime_seconds,
            prompt_text: run.prompt_text.clone(),
            mantissa: Some(RunExtras::of(run)),
            prefill: run.prefill.as_ref().map(|prefill| signals(prefill, 0, last_layer)),
            decode_steps: Steps { run, last_layer },
        }))
    }
}

/// The block whose name the final norm takes.
fn last_layer(metadata: &ExperimentMetadata) -> u32 {
    let extracted = || metadata.extraction_config.layers.iter().copied().max().unwrap_or(0);
    metadata.mantissa.as_ref().map_or_else(extracted, |provenance| provenance.num_layers)
}

struct Steps<'a> {
    run: &'a Run,
    last_layer: u32,
}

impl Serialize for Steps<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(decode) = &self.run.decode else { return serializer.collect_seq::<[WireStep; 0]>([]) };
        let first = usize::try_from(decode.first_step).unwrap_or(usize::MAX);
        let tokens = self.run.output_token_ids.iter().skip(first).take(decode.steps).enumerate();
        serializer.collect_seq(tokens.map(|(index, &token_id)| {
            let WireSignals { hidden_states, key_vectors, logprobs, sites, non_finite } =
                signals(decode, index, self.last_layer);
            let token_text = self.run.output_token_texts.get(first + index).cloned();
            let step = decode.first_step + index as u64;
            WireStep { step, token_id, token_text, hidden_states, key_vectors, logprobs, sites, non_finite }
        }))
    }
}

fn signals(phase: &PhaseSignals, step: usize, last_layer: u32) -> WireSignals {
    let mut wire = WireSignals::default();
    for (&site, tensor) in &phase.tensors {
        for (index, &position) in phase.positions.iter().enumerate() {
            let row = tensor.row(step, index).unwrap_or_default();
            let values = values(tensor.dtype, row);
            note_non_finite(&mut wire, &site.to_string(), PosKey(position), tensor.dtype, row, &values);
            let (layers, key) = match (site.point, site.layer) {
                (Point::XOut, Some(LayerIdx(layer))) => (&mut wire.hidden_states, LayerKey::Layer(layer)),
                (Point::FinalNorm, _) => (&mut wire.hidden_states, LayerKey::FinalNorm(last_layer)),
                (Point::K, Some(LayerIdx(layer))) => (&mut wire.key_vectors, LayerKey::Layer(layer)),
                (point, layer) => {
                    let key = layer.map_or(LayerKey::Model, |LayerIdx(layer)| LayerKey::Layer(layer));
                    (wire.sites.0.entry(point).or_default(), key)
                }
            };
            layers.0.entry(key).or_default().0.insert(PosKey(position), values);
        }
    }
    if let Some(logprobs) = &phase.logprobs {
        for (index, &position) in phase.positions.iter().enumerate() {
            let start = (step * logprobs.positions + index) * logprobs.k;
            let row = start..start + logprobs.k;
            let log_probs = Values(logprobs.log_probs[row.clone()].to_vec());
            let bytes = crate::run::float_bytes(&log_probs.0);
            note_non_finite(&mut wire, LOGPROBS, PosKey(position), Dtype::F32, &bytes, &log_probs);
            let top = TopK { token_ids: logprobs.token_ids[row].to_vec(), log_probs };
            wire.logprobs.0.insert(PosKey(position), top);
        }
    }
    wire
}

/// Key of the log-probabilities among the non-finite values.
pub(super) const LOGPROBS: &str = "logprobs";

fn values(dtype: Dtype, row: &[u8]) -> Values {
    Values((0..row.len() / dtype.size()).map(|i| dtype.decode(row, i)).collect())
}

fn note_non_finite(
    wire: &mut WireSignals,
    name: &str,
    position: PosKey,
    dtype: Dtype,
    row: &[u8],
    values: &Values,
) {
    if values.0.iter().all(|value| value.is_finite()) {
        return;
    }
    let indices: Vec<usize> = (0..values.0.len()).filter(|&i| !values.0[i].is_finite()).collect();
    let bits = indices.iter().map(|i| {
        let little_endian = &row[i * dtype.size()..(i + 1) * dtype.size()];
        let pattern = little_endian.iter().rev().fold(0_u32, |pattern, &byte| pattern << 8 | u32::from(byte));
        format!("{pattern:0digits$x}", digits = 2 * dtype.size())
    });
    let bits = Bits { bits: bits.collect(), indices };
    wire.non_finite.0.entry(name.to_owned()).or_default().0.insert(position, bits);
}

/// The site a key of `hidden_states`, `key_vectors` or `sites.<point>` stands for.
pub(super) fn site(point: Point, key: LayerKey) -> Option<Site> {
    match (point, key) {
        (Point::XOut, LayerKey::FinalNorm(_)) => Some(Site::outside(Point::FinalNorm)),
        (_, LayerKey::Layer(layer)) if point.has_layer() => Some(Site::at(layer, point)),
        (_, LayerKey::Model) if !point.has_layer() => Some(Site::outside(point)),
        _ => None,
    }
}
