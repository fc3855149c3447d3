//! Judgement on distances that others measured, without the signals.
//!
//! Where rows and columns come from one machine and every matching replay is exactly 0 away, distances tell bits:
//! the exact tier. Elsewhere each pair has the distances of its matching replays as its own floor. Left out:
//! anything that needs a signal.

use super::distances::Stored;
use super::options::Options;
use super::parts::Parts;
use super::separation::settle;
use super::{stored_exact, stored_lines, stored_matrix, stored_pairs, stored_tokens, weights};
use crate::Result;
use crate::found::{Caveat, Found, Unshown};

/// Judges one verification.
pub(super) fn judge(stored: &Stored<'_>, options: &Options, parts: &mut Parts) -> Result<()> {
    let verification = stored.verification;
    parts.signals.extend(stored.lanes.iter().map(|&(_, signal)| signal));
    for divergence in &stored.diverged {
        let found = stored_tokens::found(divergence, stored);
        parts.find(&Found::DistancesPart(found), stored.cite(stored_tokens::cells(divergence, stored)));
    }
    if !verification.mismatches.is_empty() {
        let found = Found::Environments {
            here: &verification.generator.gpu,
            there: &verification.verifier.gpu,
            fields: &verification.mismatches,
        };
        parts.find(&found, vec![stored.evidence.cite("metadata")]);
    }
    if stored.tells_bits() {
        stored_exact::add(stored, options, parts)?;
    } else {
        stored_lines::add(stored, parts);
        for &lane in &stored.lanes {
            let family = stored
                .pairs()
                .into_iter()
                .map(|(a, b)| stored_pairs::candidate(stored, lane, a, b))
                .collect();
            let verdicts = settle(family, options)?;
            if stored.references(lane).iter().any(Option::is_some) {
                parts.thresholds.extend(["alpha", "confidence", "effect"]);
            }
            let caveat = Caveat { versions: stored.versions(), unshown: Unshown::Nothing };
            parts.add_pairs(verdicts, &stored.place(), &caveat);
        }
    }
    weights::other_weights_stored(stored, parts);
    if !stored.tells_bits() {
        stored_pairs::baselines(stored, parts);
    }
    stored_matrix::add(stored, parts);
    Ok(())
}
