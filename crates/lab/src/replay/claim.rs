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
    /// What is known of the evidence's log-probabilities.
    pub logprobs: Logprobs,
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
            logprobs: extras.map_or(Logprobs::Unknown, Logprobs::of),
            engine: setup.map(|setup| setup.engine.clone()),
        }
    }
}

/// What is known of how log-probabilities were made.
///
/// Example: [`super::Walk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logprobs {
    /// Nothing: they are not compared.
    Unknown,
    /// The evidence states the recipe: what a replay ranks first is compared.
    Stated(LogSoftmaxRecipe),
    /// They are whatever the engine of a setup computes, as an API hands them out: each by the id it is listed under.
    /// Printed with so many decimals; `None` where they are binary32 values.
    Engine(Option<u8>),
}

impl Logprobs {
    /// The recipe that evidence states.
    pub(super) const fn stated(self) -> Option<LogSoftmaxRecipe> {
        match self {
            Self::Stated(recipe) => Some(recipe),
            Self::Unknown | Self::Engine(_) => None,
        }
    }

    /// Whether candidates are any that an engine listed.
    pub(super) const fn are_listed(self) -> bool {
        matches!(self, Self::Engine(_))
    }

    /// The engine's own of an API's answers, else the one recipe that a configuration states.
    fn of(extras: &ConfigurationExtras) -> Self {
        if let Some(answers) = &extras.answers {
            return Self::Engine(answers.decimals);
        }
        let mut stated = extras.recipes.iter().filter_map(|kernel| match kernel.recipe {
            KernelRecipe::LogSoftmax(recipe) => Some(recipe),
            _ => None,
        });
        match stated.next() {
            Some(first) if stated.all(|recipe| recipe == first) => Self::Stated(first),
            _ => Self::Unknown,
        }
    }
}
