//! What evidence claims, as far as replay needs it.

use mantissa_evidence::{Configuration, ConfigurationExtras, Decoding, Digest};
use mantissa_model::Checkpoint;
use mantissa_numerics::recipe::{KernelRecipe, LogSoftmaxRecipe};
use mantissa_numerics::setup::SomeAxes;
use mantissa_numerics::{Generation, Setup};

use crate::declared;
use crate::uncovered::Unreadable;

/// What a configuration of evidence declares, as far as replay needs it.
///
/// Example: [`super::Walk`].
#[derive(Debug, Clone)]
pub struct Claim {
    /// Name of the configuration.
    pub config_id: String,
    /// The setup, or why it cannot be replayed.
    pub candidate: Result<Setup, Unreadable>,
    /// Digest of the weights, where stated.
    pub weights: Option<Digest>,
    /// How tokens were chosen, where stated.
    pub decoding: Option<Decoding>,
    /// Settings that acted on the choice, where stated.
    pub generation: Option<Generation>,
    /// The recipe of the evidence's log-probabilities, where it states one.
    pub logprobs: Option<LogSoftmaxRecipe>,
    /// Who recorded it.
    pub engine: Option<String>,
}

impl Claim {
    /// Reads what `configuration` declares about `checkpoint`, with `claimed` in place of it.
    #[must_use]
    pub fn of(configuration: &Configuration, claimed: &SomeAxes, checkpoint: &Checkpoint) -> Self {
        Self::tested(configuration, "", claimed, checkpoint)
    }

    /// As [`Claim::of`], in an experiment that tests `variable`: its value is what the configuration says of it.
    ///
    /// Example: [`super::Walk`].
    #[must_use]
    pub fn tested(
        configuration: &Configuration,
        variable: &str,
        claimed: &SomeAxes,
        checkpoint: &Checkpoint,
    ) -> Self {
        let extras = configuration.mantissa.as_ref();
        let setup = extras.map(|extras| &extras.setup);
        Self {
            config_id: configuration.config_id.clone(),
            candidate: declared::setup(configuration, variable, claimed, checkpoint),
            weights: setup.and_then(|setup| setup.model.weights_digest),
            decoding: setup.map(|setup| setup.decoding),
            generation: setup.and_then(|setup| setup.generation.clone()),
            logprobs: extras.and_then(logprobs),
            engine: setup.map(|setup| setup.engine.clone()),
        }
    }
}

/// The one recipe of log-probabilities that a configuration states; `None` where it states several.
fn logprobs(extras: &ConfigurationExtras) -> Option<LogSoftmaxRecipe> {
    let mut stated = extras.recipes.iter().filter_map(|kernel| match kernel.recipe {
        KernelRecipe::LogSoftmax(recipe) => Some(recipe),
        _ => None,
    });
    let first = stated.next()?;
    stated.all(|recipe| recipe == first).then_some(first)
}
