//! Perturbations: replacing what a node leaves, to compute one node from inputs that were recorded elsewhere.
//!
//! A tap reads and cannot change; a perturbation may change, and is handed over by name
//! ([`Engine::perturbed_prefill`](crate::Engine::perturbed_prefill)), never part of a setup.

use mantissa_model::graph::{Operation, Section};
use mantissa_numerics::Dtype;
use mantissa_numerics::site::Phase;

use crate::pass::Place;
use crate::tap::{RowId, Tap};

/// Stem, block or head.
///
/// Example: [`Perturbation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SectionId {
    /// Tokens to the residual stream.
    Stem,
    /// A block, counted from 0.
    Block(usize),
    /// The residual stream to logits.
    Head,
}

impl From<Place> for SectionId {
    fn from(place: Place) -> Self {
        match place {
            Place::Stem => Self::Stem,
            Place::Block { layer, .. } => Self::Block(layer),
            Place::Head => Self::Head,
        }
    }
}

/// What a node left.
///
/// Example: [`Perturbation`].
#[derive(Debug)]
pub struct Leaving<'a> {
    /// Section of the node.
    pub section: SectionId,
    /// Its place in the section.
    pub node: usize,
    /// Kind of pass.
    pub phase: Phase,
    /// What each row is.
    pub rows: &'a [RowId],
    /// Format that the values are rounded to: binary32 where a bias or a bound follows.
    pub dtype: Dtype,
    /// The values; of a choice of experts, their numbers and then their weights. *Shape:* `rows × width`.
    pub data: &'a mut [f32],
}

/// Something that may replace what nodes leave, before any later node reads it.
///
/// What is appended to a cache is replaced there. Rows between the choice of experts and their sum are sorted by
/// expert and not shown.
///
/// ```
/// use mantissa_engine::{Leaving, Perturbation, SectionId};
/// # use mantissa_engine::{Attention, Catalogs, Engine, EngineSetup, Hardware, Isa, NoTap, QuantizedWeights};
/// # use mantissa_numerics::Dtype;
/// # use mantissa_model::synth::{SynthSpec, write};
/// # use mantissa_model::{Arch, Checkpoint};
/// # let folder = tempfile::tempdir()?;
/// # write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
/// # let checkpoint = Checkpoint::open(folder.path())?;
/// # let setup = EngineSetup {
/// #     serving: mantissa_engine::Serving::default(),
/// #     hardware: Hardware::Cpu,
/// #     dtype: Dtype::F32,
/// #     attention: Attention::Eager,
/// #     quantized: QuantizedWeights::Keep,
/// #     catalogs: Catalogs::default(),
/// #     context: 64,
/// #     threads: 1,
/// #     isa: Isa::detect(),
/// # };
///
/// /// Hands the second block's input over from one pass to another.
/// struct Handed(Option<Vec<f32>>);
///
/// impl Perturbation for Handed {
///     fn wants(&self, section: SectionId, node: usize) -> bool {
///         section == SectionId::Block(1) && node == 0
///     }
///
///     fn perturb(&mut self, leaving: Leaving<'_>) -> bool {
///         match &self.0 {
///             Some(known) => leaving.data.copy_from_slice(known),
///             None => self.0 = Some(leaving.data.to_vec()),
///         }
///         true
///     }
/// }
///
/// let engine = Engine::load(&checkpoint, setup)?;
/// let mut handed = Handed(None);
/// let logits = [5, 6].map(|token| {
///     let mut cache = engine.new_cache(1);
///     engine.perturbed_prefill(&mut cache, &[token], 1, 1, &mut NoTap, &mut handed).expect("logits")
/// });
/// assert_eq!(logits[0], logits[1], "another token, and from the second block on the same");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Perturbation {
    /// Whether [`Perturbation::perturb`] should be called for this node.
    fn wants(&self, section: SectionId, node: usize) -> bool;
    /// May replace values; tells whether it did.
    fn perturb(&mut self, leaving: Leaving<'_>) -> bool;
}

/// What is shown of a pass, and to whom.
pub(crate) struct Hooks<'h> {
    pub taps: &'h mut dyn Tap,
    pub perturbation: Option<&'h mut dyn Perturbation>,
}

/// Of each node, whether its rows are those of the pass: not sorted by expert.
pub(crate) fn in_order(section: &Section) -> Vec<bool> {
    let mut by_expert = vec![false; section.nodes.len()];
    for (place, node) in section.nodes.iter().enumerate() {
        by_expert[place] = match node.operation {
            Operation::Gather => true,
            Operation::ExpertSum { .. } => false,
            _ => node.inputs.iter().any(|input| by_expert[*input]),
        };
    }
    by_expert.into_iter().map(|sorted| !sorted).collect()
}
