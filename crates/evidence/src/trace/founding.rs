//! Events without a header, as the program that named `stage_trace` writes them: one row each, its hash a number.

use mantissa_numerics::{LayerIdx, Phase, Point};
use serde::Deserialize;

use super::event::{StageTrace, TraceHash};
use crate::error::{Flaw, one_line};

/// Longest event that may span lines, in bytes.
pub(super) const MAX_EVENT: usize = 1 << 12;

/// An event as it is written. Fields that are not named here are not read.
#[derive(Deserialize)]
pub(super) struct Founding {
    event: String,
    prompt_id: String,
    phase: String,
    point: String,
    /// Counted from 0.
    layer: Option<i64>,
    step: u64,
    pos_id: u64,
    seq_len: u64,
    hash: u64,
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
}

impl Founding {
    /// The event in the words of this program.
    pub(super) fn read(self) -> Result<StageTrace, Flaw> {
        if self.event != "stage_trace" {
            let problem = format!("'{}' where stage_trace is meant", one_line(&self.event));
            return Err(Flaw::new("event", problem, "give a file of stage_trace events alone"));
        }
        let number = |rest: &str| rest.is_empty() || rest.parse::<u32>().is_ok();
        let phase = match self.phase.strip_prefix("decode") {
            Some(rest) if number(rest) => Phase::Decode,
            _ if self.phase == "prefill_last" => Phase::Prefill,
            _ => {
                let problem = format!("'{}' is not known", one_line(&self.phase));
                return Err(Flaw::new("phase", problem, "use prefill_last or decode0"));
            }
        };
        let point: Point = self.point.parse().map_err(|_| {
            let problem = format!("'{}' is not known", one_line(&self.point));
            Flaw::new("point", problem, "leave its events out; `mantissa trace --help` lists the points")
        })?;
        let block = || self.layer.and_then(|layer| u32::try_from(layer).ok()?.checked_add(1));
        let layer = if point.has_layer() {
            let absent = || Flaw::new("layer", "not a block counted from 0", "number the blocks from 0");
            Some(LayerIdx(block().ok_or_else(absent)?))
        } else {
            None
        };
        Ok(StageTrace {
            prompt_id: self.prompt_id,
            phase,
            point,
            layer,
            step: self.step,
            pos_id: self.pos_id,
            seq_len: self.seq_len,
            hash: Some(TraceHash::Opaque(self.hash)),
            min: self.min,
            max: self.max,
            mean: self.mean,
            abs_sum: None,
            sum: None,
            nan: None,
            inf: None,
            nonzero: None,
            shape: None,
            dtype: None,
            positions: vec![self.pos_id],
            rows: Vec::new(),
            token_ids: Vec::new(),
            shown: None,
            tensor: None,
        })
    }
}
