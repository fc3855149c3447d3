//! From a sample of single values to a verdict on the claim.

use super::claim::{ClaimAnswer, ClaimVerdict, RestsOn};
use super::spot::SpotCheck;
use crate::analysis::Tier;
use crate::found::{Claim, OneClass, Sampled, SufficientEvidence};
use crate::said;

impl SpotCheck {
    /// The verdict that this sample gives on the claim `candidate`.
    ///
    /// ```
    /// use mantissa_verdict::audit::{ClaimAnswer, SpotCheck};
    ///
    /// let sample = SpotCheck {
    ///     config_id: "bs1".into(),
    ///     seed: 1,
    ///     population: 1_000,
    ///     recorded: 4_000,
    ///     drawn: 50,
    ///     distinct: 49,
    ///     different: 0,
    ///     first: None,
    ///     missed: SpotCheck::missed(50),
    ///     kernels: vec![],
    ///     out_of_reach: vec![],
    /// };
    /// assert_eq!(sample.verdict("bs1", 1).answer, ClaimAnswer::Consistent);
    /// ```
    #[must_use]
    pub fn verdict(&self, candidate: &str, runs: u64) -> ClaimVerdict {
        let answer = match (self.drawn, self.different) {
            (0, _) => ClaimAnswer::NotEnoughEvidence,
            (_, 0) => ClaimAnswer::Consistent,
            _ => ClaimAnswer::FitsNone,
        };
        let (drawn, different) = (self.drawn, self.different);
        let reach = [self.population, self.recorded];
        let found =
            Claim::Sampled(Sampled { candidate, drawn, different, reach, first: self.first.as_ref() });
        ClaimVerdict {
            config_id: self.config_id.clone(),
            claim: Some(candidate.to_owned()),
            answer,
            tier: if self.drawn == 0 { Tier::None } else { Tier::Exact },
            sentence: said::claim(answer, &found),
            fits: if answer == ClaimAnswer::Consistent {
                vec![vec![candidate.to_owned()]]
            } else {
                Vec::new()
            },
            cannot_tell_apart: vec![said::one_class(&OneClass::NotDrawn)],
            not_checked: self.out_of_reach.clone(),
            enough: (answer == ClaimAnswer::NotEnoughEvidence)
                .then(|| said::enough(&SufficientEvidence::Inputs)),
            rests_on: RestsOn {
                runs,
                values: self.distinct,
                recorded: self.recorded,
                rows: 0,
                tokens_fed: 0,
                tokens_checked: 0,
            },
            replays: Vec::new(),
        }
    }
}
