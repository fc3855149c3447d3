//! Is a difference too large to be rounding?
//!
//! Setups that declare the same weights differ by their kernels alone: the largest such distance in a file is the
//! yardstick for setups that declare other weights. Without a yardstick nothing is said. Left out: a judgement on
//! setups that declare nothing.

use mantissa_numerics::Phase;

use super::facts::cite;
use super::signals::Known;
use super::words;
use crate::analysis::{FindingKind, Signal};
use crate::thresholds::OTHER_WEIGHTS;

use super::parts::Parts;

struct Distance {
    a: usize,
    b: usize,
    mean: f64,
    /// Mean over rows of the probability mass outside the common candidates.
    moved: f64,
}

/// Finds setups whose log-probabilities lie farther apart than kernels can put them.
pub(super) fn other_weights(known: &Known<'_>, parts: &mut Parts) {
    for hardware in known.setups.hardware() {
        let on = known.setups.on(hardware);
        for phase in [Phase::Prefill, Phase::Decode] {
            let (mut kernels, mut others): (Vec<Distance>, Vec<Distance>) = (Vec::new(), Vec::new());
            for (index, &a) in on.iter().enumerate() {
                for &b in &on[index + 1..] {
                    let (Some(x), Some(y)) = (known.setups.model(a), known.setups.model(b)) else { continue };
                    let Some(distance) = distance(known, a, b, phase) else { continue };
                    if x == y { &mut kernels } else { &mut others }.push(distance);
                }
            }
            judge(known, phase, &kernels, &others, parts);
        }
    }
}

fn distance(known: &Known<'_>, a: usize, b: usize, phase: Phase) -> Option<Distance> {
    let lane = (phase, Signal::Logprobs);
    let summary = known.facts.summary(a, b, lane);
    let moved: Vec<f64> = summary
        .compared
        .iter()
        .filter_map(|&prompt| known.facts.measured(a, b, prompt, lane))
        .flat_map(|found| found.moved.clone())
        .collect();
    Some(Distance { a, b, mean: summary.distance?, moved: words::mean(&moved).unwrap_or(0.0) })
}

fn judge(known: &Known<'_>, phase: Phase, kernels: &[Distance], others: &[Distance], parts: &mut Parts) {
    let Some(yardstick) =
        kernels.iter().max_by(|x, y| x.mean.total_cmp(&y.mean)).filter(|one| one.mean > 0.0)
    else {
        return;
    };
    let far: Vec<&Distance> =
        others.iter().filter(|one| one.mean >= OTHER_WEIGHTS * yardstick.mean).collect();
    parts.thresholds.insert("other_weights");
    let Some(nearest) = far.iter().min_by(|x, y| x.mean.total_cmp(&y.mean)) else { return };
    let prompts = known.facts.summary(nearest.a, nearest.b, (phase, Signal::Logprobs)).compared;
    let pairs: Vec<String> =
        far.iter().map(|one| format!("{} and {}", known.label(one.a), known.label(one.b))).collect();
    let sentence = format!(
        "{} differ in weights, not only in kernels: they declare {} and {}, and the {} log-probabilities of the nearest \
         such pair ({} and {}) lie {} nats apart (root mean square over common token ids, {}), {} times the largest \
         distance between kernels that share weights ({} and {}: {}), with {} of the probability outside the common \
         candidates.",
        pairs.join("; "),
        known.setups.model_name(nearest.a),
        known.setups.model_name(nearest.b),
        phase.name(),
        known.label(nearest.a),
        known.label(nearest.b),
        words::figure(nearest.mean),
        words::count(prompts.len() as u64, "reference"),
        words::figure(nearest.mean / yardstick.mean),
        known.label(yardstick.a),
        known.label(yardstick.b),
        words::figure(yardstick.mean),
        words::figure(nearest.moved)
    );
    let citations = cite(&known.setups, &[nearest.a, nearest.b, yardstick.a, yardstick.b], &prompts);
    parts.find(FindingKind::NotRounding, sentence, citations);
}
