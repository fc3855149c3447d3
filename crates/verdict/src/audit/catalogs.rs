//! What a verdict rests on where replays took recipes from catalogs.

use std::collections::BTreeMap;

use mantissa_evidence::{CatalogBasis, UsedCatalog};

use super::claim::{ClaimAnswer, ClaimVerdict};
use super::result::Audit;
use crate::found::RestingOn;
use crate::said;

impl Audit {
    /// This audit with the catalogs that replays used: `used` has those of each candidate, by its name. A verdict that
    /// rests on a catalog which its user measured, or on what a heuristic names, says so.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use mantissa_evidence::{CatalogBasis, Digest, UsedCatalog};
    /// # use mantissa_verdict::analysis::{Outcome, Tier};
    /// # use mantissa_verdict::audit::{AUDIT_VERSION, Audit, ClaimAnswer, ClaimVerdict, Cost, RestsOn};
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
    /// #     self_test: Vec::new(),
    /// #     notes: Vec::new(), thresholds: Vec::new(), catalogs: Vec::new(),
    /// # };
    ///
    /// let own = UsedCatalog {
    ///     hardware: "h200".to_owned(),
    ///     cublas: "13.1.0".to_owned(),
    ///     basis: CatalogBasis::Measured,
    ///     asked: false,
    ///     digest: Digest::of_bytes(b"a file"),
    /// };
    /// let used = BTreeMap::from([("h200_bs1_eager_bf16".to_owned(), vec![own.clone()])]);
    /// let audit = audit.resting_on(&used);
    /// assert_eq!(audit.catalogs, [own]);
    /// assert!(audit.claims[0].sentence.contains("measured by its user"));
    /// ```
    #[must_use]
    pub fn resting_on(mut self, used: &BTreeMap<String, Vec<UsedCatalog>>) -> Self {
        // One that a candidate was only asked of, another not, is one catalog.
        let mut all: BTreeMap<UsedCatalog, bool> = BTreeMap::new();
        for catalog in used.values().flatten() {
            *all.entry(UsedCatalog { asked: false, ..catalog.clone() }).or_default() |= catalog.asked;
        }
        self.catalogs = all.into_iter().map(|(catalog, asked)| UsedCatalog { asked, ..catalog }).collect();
        for claim in &mut self.claims {
            claim.sentence.push_str(&said::resting_on(&beside_verified(claim, used)));
        }
        self
    }
}

/// The catalogs that a verdict rests on beside verified recipes.
fn beside_verified(claim: &ClaimVerdict, used: &BTreeMap<String, Vec<UsedCatalog>>) -> RestingOn {
    let mut found = RestingOn::default();
    if matches!(claim.answer, ClaimAnswer::NotEnoughEvidence | ClaimAnswer::ContradictsItself) {
        return found;
    }
    let names = claim.claim.iter().chain(claim.fits.iter().flatten());
    for catalog in names.filter_map(|name| used.get(name)).flatten() {
        if catalog.basis == CatalogBasis::Measured {
            found.measured.insert(catalog.digest);
        }
        if catalog.asked {
            found.asked.insert(catalog.digest);
        }
    }
    found
}
