//! Result files that other programs published: read as they are, with what they leave unsaid stated as a warning.
//!
//! Each layout has a typed form in a module of its own. Generation and activation files become an [`Experiment`],
//! verification files and logs a [`Verification`]; what their authors computed from them stays in the typed form, for
//! `--as-published`. A layout is recognized by its content, never by its name.

pub mod activations;
pub mod attention_log;
pub mod attention_verification;
pub mod batch_generation;
pub mod batch_matrix_log;
pub mod batch_verification;
mod layout;
pub mod log;
mod parts;
pub mod quant_generation;
pub mod quant_verification;
pub mod quantization_log;

use std::path::Path;

pub use activations::Activations;
pub use attention_log::AttentionLog;
pub use attention_verification::AttentionVerification;
pub use batch_generation::BatchGeneration;
pub use batch_matrix_log::BatchMatrixLog;
pub use batch_verification::BatchVerification;
pub use quant_generation::QuantGeneration;
pub use quant_verification::QuantVerification;
pub use quantization_log::QuantizationLog;

pub use parts::{Candidates, Entries, Layer, Position, Setting, Settings, Square};

use crate::error::{Result, one_line};
use crate::lenient;
use layout::Layout;

use crate::{Experiment, Verification};

/// A published file.
#[derive(Debug, Clone, PartialEq)]
pub enum Published {
    /// One activation vector per batch size and repetition, on one GPU.
    Activations(Activations),
    /// Signals of generation at several batch sizes.
    BatchGeneration(BatchGeneration),
    /// Distances of replays to those, claimed against verified batch size.
    BatchVerification(BatchVerification),
    /// Log-probabilities of generation under several quantization kernels.
    QuantGeneration(QuantGeneration),
    /// Distances of replays to those, claimed against verified kernel.
    QuantVerification(QuantVerification),
    /// Distances averaged over references, claimed against verified attention implementation.
    AttentionVerification(AttentionVerification),
    /// Log of decode runs replayed by prefill at every batch size.
    BatchMatrixLog(Box<BatchMatrixLog>),
    /// Log of evidence replayed on another GPU under each attention implementation.
    AttentionLog(Box<AttentionLog>),
    /// Log of generation under several quantization kernels.
    QuantizationLog(Box<QuantizationLog>),
}

impl Published {
    /// Name of the layout: `activations`, `batch_generation`, …
    #[must_use]
    pub const fn layout(&self) -> &'static str {
        match self {
            Self::Activations(_) => "activations",
            Self::BatchGeneration(_) => "batch_generation",
            Self::BatchVerification(_) => "batch_verification",
            Self::QuantGeneration(_) => "quant_generation",
            Self::QuantVerification(_) => "quant_verification",
            Self::AttentionVerification(_) => "attention_verification",
            Self::BatchMatrixLog(_) => "batch_matrix_log",
            Self::AttentionLog(_) => "attention_log",
            Self::QuantizationLog(_) => "quantization_log",
        }
    }

    /// The signals, for layouts that keep them.
    #[must_use]
    pub fn experiment(&self) -> Option<Experiment> {
        match self {
            Self::Activations(file) => Some(file.experiment().clone()),
            Self::BatchGeneration(file) => Some(file.experiment().clone()),
            Self::QuantGeneration(file) => Some(file.experiment().clone()),
            Self::BatchVerification(_)
            | Self::QuantVerification(_)
            | Self::AttentionVerification(_)
            | Self::BatchMatrixLog(_)
            | Self::AttentionLog(_)
            | Self::QuantizationLog(_) => None,
        }
    }

    /// The distances that somebody else measured, for layouts that keep only those.
    #[must_use]
    pub fn verifications(&self) -> Vec<Verification> {
        match self {
            Self::BatchVerification(file) => vec![file.verification()],
            Self::QuantVerification(file) => vec![file.verification()],
            Self::AttentionVerification(file) => vec![file.verification()],
            Self::BatchMatrixLog(log) => log.verifications(),
            Self::AttentionLog(log) => log.verifications(),
            Self::QuantizationLog(log) => log.verifications(),
            Self::Activations(_) | Self::BatchGeneration(_) | Self::QuantGeneration(_) => Vec::new(),
        }
    }

    /// What was lenient or assumed in reading it.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        match self {
            Self::Activations(file) => &file.warnings,
            Self::BatchGeneration(file) => &file.warnings,
            Self::QuantGeneration(file) => &file.warnings,
            Self::BatchVerification(file) => &file.warnings,
            Self::QuantVerification(file) => &file.warnings,
            Self::AttentionVerification(file) => &file.warnings,
            Self::BatchMatrixLog(_) | Self::AttentionLog(_) | Self::QuantizationLog(_) => &[],
        }
    }
}

/// Reads a published file of any layout; `None` when `bytes` are none of them. `origin` names the file in errors.
pub fn parse(bytes: &[u8], origin: &Path) -> Result<Option<Published>> {
    if let Some(log) = parse_log(bytes, origin) {
        return log.map(Some);
    }
    let Some((layout, strict)) = recognize(bytes) else { return Ok(None) };
    if strict && let Ok(published) = parse_layout(layout, bytes, origin, Vec::new()) {
        return Ok(published);
    }
    let (json, found) = lenient::to_json(bytes);
    parse_layout(layout, &json, origin, found.iter().map(ToString::to_string).collect())
}

/// Whether bytes are the uniform experiment JSON, strict or lenient.
pub(crate) fn is_experiment(bytes: &[u8]) -> bool {
    recognize(bytes).is_some_and(|(layout, _)| layout == Layout::Experiment)
}

/// A telling key of a file that is not quite JSON stands within this many bytes.
const LENIENT_START: usize = 1 << 24;

/// The layout of a JSON file, and whether it could be told without being lenient.
fn recognize(bytes: &[u8]) -> Option<(Layout, bool)> {
    let object = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if !object {
        return None;
    }
    let strict = layout::of(bytes).map(|layout| (layout, true));
    // Only the beginning is rewritten: the file may be larger than memory.
    let start = &bytes[..bytes.len().min(LENIENT_START)];
    strict.or_else(|| Some((layout::of(&lenient::to_json(start).0)?, false)))
}

fn parse_layout(
    layout: Layout,
    json: &[u8],
    origin: &Path,
    mut warnings: Vec<String>,
) -> Result<Option<Published>> {
    let mut published = match layout {
        Layout::Experiment => return Ok(None),
        Layout::Activations => Published::Activations(Activations::parse(json, origin)?),
        Layout::BatchGeneration => Published::BatchGeneration(BatchGeneration::parse(json, origin)?),
        Layout::BatchVerification => Published::BatchVerification(BatchVerification::parse(json, origin)?),
        Layout::QuantGeneration => Published::QuantGeneration(QuantGeneration::parse(json, origin)?),
        Layout::QuantVerification => Published::QuantVerification(QuantVerification::parse(json, origin)?),
        Layout::AttentionVerification => {
            Published::AttentionVerification(AttentionVerification::parse(json, origin)?)
        }
    };
    let own = match &mut published {
        Published::Activations(file) => &mut file.warnings,
        Published::BatchGeneration(file) => &mut file.warnings,
        Published::BatchVerification(file) => &mut file.warnings,
        Published::QuantGeneration(file) => &mut file.warnings,
        Published::QuantVerification(file) => &mut file.warnings,
        Published::AttentionVerification(file) => &mut file.warnings,
        Published::BatchMatrixLog(_) | Published::AttentionLog(_) | Published::QuantizationLog(_) => {
            return Ok(Some(published));
        }
    };
    warnings.append(own);
    // They quote the file.
    *own = warnings.iter().map(|warning| one_line(warning)).collect();
    Ok(Some(published))
}

/// Reads a text log; `None` when `bytes` open like none of them.
#[must_use]
pub fn parse_log(bytes: &[u8], origin: &Path) -> Option<Result<Published>> {
    if batch_matrix_log::recognizes(bytes) {
        Some(batch_matrix_log::parse(bytes, origin).map(|log| Published::BatchMatrixLog(Box::new(log))))
    } else if attention_log::recognizes(bytes) {
        Some(attention_log::parse(bytes, origin).map(|log| Published::AttentionLog(Box::new(log))))
    } else if quantization_log::recognizes(bytes) {
        Some(quantization_log::parse(bytes, origin).map(|log| Published::QuantizationLog(Box::new(log))))
    } else {
        None
    }
}
