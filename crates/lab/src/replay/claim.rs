//! What evidence claims, as far as replay needs it.

use mantissa_evidence::{Configuration, ConfigurationExtras, Decoding, Digest};
use mantissa_model::Checkpoint;
use mantissa_numerics::Setup;
use mantissa_numerics::setup::SomeAxes;

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
    /// Whether the evidence's log-probabilities go by a recipe of ours.
    pub own_logprobs: bool,
    /// Who recorded it.
    pub engine: Option<String>,
}

impl Claim {
    /// Reads what `configuration` declares about `checkpoint`, with `claimed` in place of it.
    #[must_use]
    pub fn of(configuration: &Configuration, claimed: &SomeAxes, checkpoint: &Checkpoint) -> Self {
        let extras = configuration.mantissa.as_ref();
        let setup = extras.map(|extras| &extras.setup);
        let ours =
            |extras: &ConfigurationExtras| extras.recipes.iter().any(|kernel| kernel.op == "log_softmax");
        Self {
            config_id: configuration.config_id.clone(),
            candidate: declared::setup(configuration, claimed, checkpoint),
            weights: setup.and_then(|setup| setup.model.weights_digest),
            decoding: setup.map(|setup| setup.decoding),
            own_logprobs: extras.is_some_and(ours),
            engine: setup.map(|setup| setup.engine.clone()),
        }
    }
}
