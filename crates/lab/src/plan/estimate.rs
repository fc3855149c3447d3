//! What a configuration will take, roughly, before it runs.

use mantissa_model::ModelConfig;

use super::cells::Cell;
use super::file::Plan;
use super::values::{Backend, CellAxis, Format};
use crate::prompt::PromptSpec;
use crate::prompt::given::{Content, GivenPrompt};

/// Multiplications of a core of this program in a second (docs/performance.md).
const OWN_RATE: f64 = 1e10;

/// Operations and bytes of a large GPU in a second, as far as inference reaches them.
const GPU_RATE: [f64; 2] = [2e14, 2e12];

/// Bytes of weights that are loaded in a second.
const LOADED: f64 = 1e9;

/// What a configuration takes, by its sizes: an order of magnitude.
///
/// ```
/// use mantissa_lab::plan::{Estimate, Plan};
/// use mantissa_model::{Arch, synth::SynthSpec};
///
/// let text = "name = 'p'\n[base]\nbackend = 'mantissa'\nmodel = 'm'\n[prompt]\ndocuments = ['d.txt']\ntokens = 100\n";
/// let plan = Plan::parse(text, "p.toml".as_ref())?;
/// let config = SynthSpec::tiny(Arch::LLAMA, 0).config().clone();
/// let estimate = Estimate::of(&plan, &plan.cells[0], &config, 1_000_000, 2);
/// // Three repetitions of a prompt and 30 steps.
/// assert_eq!((estimate.passes, estimate.tokens), (93, 390));
/// assert!(estimate.memory_bytes > 1_000_000 && estimate.disk_bytes > 0);
/// # Ok::<(), mantissa_lab::plan::PlanError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// Forward passes.
    pub passes: u64,
    /// Tokens that they feed, of all sequences.
    pub tokens: u64,
    /// Weights and caches of each rank.
    pub memory_bytes: u64,
    /// What is kept of it.
    pub disk_bytes: u64,
    /// How long it takes.
    pub seconds: f64,
}

impl Estimate {
    /// Of a cell of a model whose weights take `stored` bytes, on `threads` cores where this program computes it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an order of magnitude")]
    pub fn of(plan: &Plan, cell: &Cell, config: &ModelConfig, stored: u64, threads: usize) -> Self {
        let whole = |n: usize| n as u64;
        let batch = u64::from(cell.setup.count(CellAxis::BatchSize));
        let (prompt, references) = prompts(&plan.prompt);
        let (steps, runs) = (u64::from(plan.decode), u64::from(plan.repetitions) * references);
        let layers = whole(config.num_hidden_layers);
        let key = whole(config.num_key_value_heads * config.head_dim);
        let cache = 2 * 2 * layers * key * (prompt + steps) * batch;
        let ranks = u64::from(cell.setup.count(CellAxis::TpSize).max(cell.setup.count(CellAxis::EpSize)));
        let kept = plan.signals.layers.as_ref().map_or(5.min(layers), |layers| whole(layers.len()));
        let rows = (1 + steps) * whole(plan.signals.positions.len());
        let values = rows * kept * (whole(config.hidden_size) + key);
        // A number as text, with its comma; and two bytes in the container that it is made from.
        let bytes_each = if plan.format == Format::Json { 14 } else { 4 };
        // Weights of 16 bits, of which every token multiplies with all; of experts, fewer.
        let weights = stored as f64 / 2.0;
        let tokens = batch * (prompt + steps);
        let seconds = match cell.backend {
            Backend::Mantissa => weights * (tokens * runs) as f64 / (OWN_RATE * threads.max(1) as f64),
            Backend::Transformers | Backend::Vllm => {
                let [operations, bytes] = GPU_RATE;
                let prefill = 2.0 * weights * (batch * prompt) as f64 / operations;
                let decode = stored as f64 * steps as f64 / bytes;
                stored as f64 / LOADED + runs as f64 * (prefill + decode)
            }
        };
        Self {
            passes: runs * (1 + steps),
            tokens: runs * tokens,
            memory_bytes: (stored + cache) / ranks.max(1),
            disk_bytes: values * bytes_each * references,
            seconds,
        }
    }
}

/// Tokens of the longest prompt, and prompts. A given text has a token for each four bytes, about.
fn prompts(spec: &PromptSpec) -> (u64, u64) {
    const BYTES_OF_TOKEN: usize = 4;
    let Some(given) = &spec.given else { return (spec.document_tokens as u64, spec.references as u64) };
    let tokens = |prompt: &GivenPrompt| match &prompt.content {
        Content::Ids(ids) => ids.len(),
        Content::Text(text) => text.len() / BYTES_OF_TOKEN,
        Content::Messages { messages, .. } => {
            messages.iter().map(|message| message.content.len()).sum::<usize>() / BYTES_OF_TOKEN
        }
    };
    let longest = given.references.iter().map(tokens).max().unwrap_or(0);
    (longest as u64, given.references.len() as u64)
}
