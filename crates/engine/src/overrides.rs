//! Recipes of single nodes in place of those that dispatch names: to find causes, and to test that a run that was not
//! as planned is noticed.

use mantissa_numerics::recipe::KernelRecipe;
use mantissa_numerics::site::Phase;

use crate::pass::Place;

/// One node's recipe.
///
/// Example: [`Overrides`].
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// The block, counted from 0; `None` for every block.
    pub layer: Option<usize>,
    /// The node's name: `o_proj`.
    pub node: String,
    /// Prefill or decode; `None` for both.
    pub phase: Option<Phase>,
    /// What runs instead; a recipe of another kind of kernel is not used.
    pub recipe: KernelRecipe,
}

/// Overrides of an engine, the first that fits counts.
///
/// ```
/// use mantissa_engine::{NoTap, Override, Overrides};
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::{KernelRecipe, LinearSum, MatmulRecipe};
/// # use mantissa_engine::{Attention, Catalogs, Engine, EngineSetup, Hardware, Isa, QuantizedWeights};
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
/// let recipe = KernelRecipe::Matmul(MatmulRecipe { summation: LinearSum::FmaChain, output: Dtype::F32 });
/// let other = Override { layer: None, node: "o_proj".to_owned(), phase: None, recipe };
/// let planned = Engine::load(&checkpoint, setup.clone())?;
/// let changed = Engine::load(&checkpoint, setup)?.with_overrides(Overrides(vec![other]));
/// let [a, b] = [planned, changed].map(|engine| {
///     engine.prefill(&mut engine.new_cache(1), &[5], 1, 0, 1, &mut NoTap).expect("logits")
/// });
/// assert_ne!(a, b, "one row is summed in lanes otherwise");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides(pub Vec<Override>);

impl Overrides {
    pub(crate) fn of(&self, place: Place, node: &str, phase: Phase, planned: KernelRecipe) -> KernelRecipe {
        let fits = |found: &&Override| {
            found.node == node
                && found.phase.is_none_or(|wanted| wanted == phase)
                && found
                    .layer
                    .is_none_or(|layer| matches!(place, Place::Block { .. }) && place.layer() == layer)
                && std::mem::discriminant(&found.recipe) == std::mem::discriminant(&planned)
        };
        self.0.iter().find(fits).map_or(planned, |found| found.recipe)
    }
}
