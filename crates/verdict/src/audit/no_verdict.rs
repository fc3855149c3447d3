//! An audit of evidence that contradicts itself: no verdict on a claim before it is settled what is claimed.

use mantissa_evidence::Conflict;

use super::claim::{ClaimAnswer, ClaimVerdict, RestsOn};
use super::contested::Contested;
use super::result::Audit;
use crate::analysis::Tier;
use crate::said;

impl Audit {
    /// This audit of evidence with `conflicts`: there is no verdict on a claim that an unsettled one concerns.
    ///
    /// ```
    /// use mantissa_evidence::{About, Conflict, Statement};
    /// use mantissa_verdict::audit::ClaimAnswer;
    /// use mantissa_verdict::analysis::Outcome;
    /// # use mantissa_verdict::analysis::Tier;
    /// # use mantissa_verdict::audit::{AUDIT_VERSION, Audit, ClaimVerdict, Cost, RestsOn};
    /// # let claim = ClaimVerdict {
    /// #     config_id: "a".to_owned(), claim: Some("h200_bs1_eager_bf16".to_owned()),
    /// #     answer: ClaimAnswer::Consistent, tier: Tier::Exact, sentence: "consistent with the claim".to_owned(),
    /// #     fits: Vec::new(), cannot_tell_apart: Vec::new(), not_checked: Vec::new(), enough: None,
    /// #     rests_on: RestsOn::default(), replays: Vec::new(),
    /// # };
    /// # let audit = Audit {
    /// #     audit_version: AUDIT_VERSION, sources: Vec::new(), model: None, replay: "decode".to_owned(),
    /// #     outcome: Outcome::Consistent, claims: vec![claim], candidates: Vec::new(), matrices: Vec::new(),
    /// #     consistency: Vec::new(), contested: Vec::new(), cost: Cost::default(), spot_checks: Vec::new(),
    /// #     self_test: Vec::new(), notes: Vec::new(), thresholds: Vec::new(), catalogs: Vec::new(),
    /// # };
    ///
    /// let model = Conflict {
    ///     about: About::Model,
    ///     config_id: None,
    ///     statements: vec![Statement::new("here", "a"), Statement::new("there", "b")],
    ///     more: 0,
    /// };
    /// let settled = audit.clone().contested(&[model.clone()], &|_| true);
    /// assert_eq!(settled.claims[0].answer, ClaimAnswer::Consistent);
    /// let open = audit.contested(&[model], &|_| false);
    /// assert_eq!(open.claims[0].answer, ClaimAnswer::ContradictsItself);
    /// assert_eq!(open.outcome, Outcome::NotEnoughEvidence);
    /// ```
    #[must_use]
    pub fn contested(mut self, conflicts: &[Conflict], settled: &dyn Fn(&Conflict) -> bool) -> Self {
        for claim in &mut self.claims {
            let concerns =
                |found: &&Conflict| found.config_id.as_ref().is_none_or(|id| *id == claim.config_id);
            let open: Vec<&Conflict> =
                conflicts.iter().filter(concerns).filter(|found| !settled(found)).collect();
            if !open.is_empty() {
                *claim = no_verdict(claim, &open);
            }
        }
        if !self.claims.is_empty() {
            self.outcome = Self::outcome_of(&self.claims);
        }
        self.contested = conflicts.iter().map(|found| Contested::of(found, settled(found))).collect();
        self
    }
}

fn no_verdict(claim: &ClaimVerdict, open: &[&Conflict]) -> ClaimVerdict {
    let settle: Vec<String> = open.iter().map(|found| said::settles(found.about)).collect();
    ClaimVerdict {
        config_id: claim.config_id.clone(),
        claim: claim.claim.clone(),
        answer: ClaimAnswer::ContradictsItself,
        tier: Tier::None,
        sentence: said::no_verdict(open),
        fits: Vec::new(),
        cannot_tell_apart: Vec::new(),
        not_checked: vec!["every bit of it: a file that contradicts itself gets no verdict".to_owned()],
        enough: Some(settle.join("; ")),
        rests_on: RestsOn::default(),
        replays: Vec::new(),
    }
}
