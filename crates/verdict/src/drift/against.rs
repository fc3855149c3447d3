//! A drift against a baseline: what is new, what is known, what is resolved.
//!
//! A site is new if the baseline does not list it, worse if its answer is worse than there, and larger if its effect
//! is larger than another order of the same sums can make it. Two runs of one bug differ by rounding: each lies within
//! its own spread of the bug's effect, so the later effect exceeds the earlier by no more than both spreads together.
//! Where no spread is known nothing is added. Nothing else is tolerated, so no number is chosen here.

use std::collections::BTreeMap;

use mantissa_numerics::Site;

use super::answer::DriftAnswer;
use super::baseline::{BaselineSite, DriftBaseline, fails};
use super::change::{AgainstBaseline, AgainstSite, BaselineChange};
use super::result::Drift;

impl DriftBaseline {
    /// What `drift` has beside this baseline, which stands in `file`; `strict` counts what is within rounding.
    ///
    /// Example: [`AgainstBaseline`].
    #[must_use]
    pub fn against(&self, drift: &Drift, file: &str, strict: bool) -> AgainstBaseline {
        let now: BTreeMap<Site, BaselineSite> =
            BaselineSite::all(drift).into_iter().map(|site| (site.site(), site)).collect();
        let then: BTreeMap<Site, &BaselineSite> = self.sites.iter().map(|site| (site.site(), site)).collect();
        let failing = now.iter().filter(|(_, site)| fails(site.answer, strict)).map(|(site, _)| *site);
        let mut all: Vec<Site> = failing.chain(then.keys().copied()).collect();
        all.sort_unstable();
        all.dedup();
        let sites = all.into_iter().map(|site| {
            let (was, is) = (then.get(&site).copied(), now.get(&site));
            let allowed = was.and_then(|was| allowed(was, is));
            AgainstSite {
                layer: site.layer,
                point: site.point,
                change: change(was, is, allowed, strict),
                was: was.map(|was| was.answer),
                is: is.map(|is| is.answer),
                effect_was: was.and_then(|was| was.effect),
                effect: is.and_then(|is| is.effect),
                allowed,
            }
        });
        AgainstBaseline { file: file.to_owned(), sites: sites.collect() }
    }
}

/// The largest effect that two runs of one bug may differ to.
fn allowed(was: &BaselineSite, is: Option<&BaselineSite>) -> Option<f64> {
    let spread = |site: &BaselineSite| site.spread.unwrap_or(0.0);
    was.effect.map(|effect| effect + spread(was) + is.map_or(0.0, spread))
}

fn change(
    was: Option<&BaselineSite>,
    is: Option<&BaselineSite>,
    allowed: Option<f64>,
    strict: bool,
) -> BaselineChange {
    let Some(was) = was else { return BaselineChange::New };
    let Some(is) = is else { return BaselineChange::NotCompared };
    let lost = is.answer == DriftAnswer::NotLocalized && was.answer != DriftAnswer::NotLocalized;
    if lost {
        return BaselineChange::NotCompared;
    }
    if fails(is.answer, strict) && is.answer > was.answer {
        return BaselineChange::Worse;
    }
    if is.answer == was.answer && fails(is.answer, strict) {
        // An effect that was known and is not finite any more is larger than any.
        let larger = match (allowed, is.effect) {
            (Some(allowed), effect) => effect.is_none_or(|effect| effect > allowed),
            (None, _) => is.differing > was.differing,
        };
        if larger {
            return BaselineChange::Larger;
        }
    }
    if is.pairs < was.pairs {
        return BaselineChange::NotCompared;
    }
    if fails(is.answer, strict) || is.answer == was.answer {
        BaselineChange::Known
    } else {
        BaselineChange::Resolved
    }
}
