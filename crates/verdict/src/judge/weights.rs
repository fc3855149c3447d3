//! Do setups that declare other weights lie farther apart than kernels put setups that share weights?
//!
//! Setups that declare the same weights differ by their kernels alone: the largest such distance in a file is the
//! yardstick for those that declare other weights. It is said where every pair of other weights lies beyond it, and how
//! many pairs there are of either kind: an order, no threshold and no test. Left out: setups that declare nothing.

use mantissa_numerics::Phase;

use super::distances::Stored;
use super::facts::cite;
use super::parts::Parts;
use super::recorded::Recorded;
use super::setups::in_order;
use super::values::mean;
use crate::analysis::{Citation, Signal};
use crate::found::{Found, Metric, OtherWeights, WeightDistance};

/// How far apart the log-probabilities of two setups are, and where that stands.
struct Distance {
    found: WeightDistance,
    citations: Vec<Citation>,
}

/// Finds setups of other weights whose log-probabilities all lie farther apart than those of any that share weights.
pub(super) fn other_weights(recorded: &Recorded<'_>, parts: &mut Parts) {
    for hardware in recorded.setups.hardware() {
        let on = recorded.setups.on(hardware);
        for phase in [Phase::Prefill, Phase::Decode] {
            let pairs =
                on.iter().enumerate().flat_map(|(index, &a)| on[index + 1..].iter().map(move |&b| (a, b)));
            let distances = pairs.filter_map(|(a, b)| measured(recorded, a, b, phase)).collect();
            judge(phase, Metric::RootMeanSquare, distances, parts);
        }
    }
}

/// The same for distances that others measured, where the file declares the models.
pub(super) fn other_weights_stored(stored: &Stored<'_>, parts: &mut Parts) {
    for phase in [Phase::Prefill, Phase::Decode] {
        let end = stored.values().end;
        let pairs = stored.values().flat_map(|a| (a + 1..end).map(move |b| (a, b)));
        let distances = pairs.filter_map(|(a, b)| distance(stored, a, b, phase)).collect();
        judge(phase, Metric::AsStored, distances, parts);
    }
}

fn measured(recorded: &Recorded<'_>, a: usize, b: usize, phase: Phase) -> Option<Distance> {
    recorded.setups.model(a).zip(recorded.setups.model(b))?;
    let lane = (phase, Signal::Logprobs);
    let summary = recorded.facts.summary(a, b, lane);
    let found = summary.compared.iter().filter_map(|&prompt| recorded.facts.measured(a, b, prompt, lane));
    let moved: Vec<f64> = found.flat_map(|found| found.moved.clone()).collect();
    let found = WeightDistance {
        names: [a, b].map(|setup| recorded.label(setup).to_owned()),
        models: [a, b].map(|setup| recorded.setups.model(setup).unwrap_or_default().to_owned()),
        mean: summary.distance?,
        moved: mean(&moved),
        references: summary.compared.len() as u64,
    };
    Some(Distance { found, citations: cite(&recorded.setups, &[a, b], &summary.compared) })
}

fn distance(stored: &Stored<'_>, a: usize, b: usize, phase: Phase) -> Option<Distance> {
    let names = [a, b].map(|index| stored.verification.values[index].clone());
    let models = &stored.evidence.models;
    let models = [models.get(&names[0])?.clone(), models.get(&names[1])?.clone()];
    let lane = (phase, Signal::Logprobs);
    let (mut references, mut means, mut citations) = (0, Vec::new(), Vec::new());
    for reference in stored.references(lane) {
        let reference = reference.as_ref();
        if stored.tokens_part(phase, reference, a, b) {
            continue;
        }
        let cells = [(a, b), (b, a)].map(|(row, column)| stored.cell(lane, reference, row, column));
        let cells: Vec<_> = cells.into_iter().flatten().filter(|cell| cell.mean.is_finite()).collect();
        let values: Vec<f64> = cells.iter().map(|cell| cell.mean).collect();
        means.extend(mean(&values));
        references += u64::from(!values.is_empty());
        citations.extend(cells.iter().map(|cell| stored.evidence.cite(cell.place.clone())));
    }
    let found = WeightDistance { names, models, mean: mean(&means)?, moved: None, references };
    Some(Distance { found, citations })
}

fn judge(phase: Phase, metric: Metric, distances: Vec<Distance>, parts: &mut Parts) {
    let (kernels, others): (Vec<Distance>, Vec<Distance>) =
        distances.into_iter().partition(|one| one.found.models[0] == one.found.models[1]);
    let by_distance = |x: &&Distance, y: &&Distance| x.found.mean.total_cmp(&y.found.mean);
    let (Some(yardstick), Some(nearest)) =
        (kernels.iter().max_by(by_distance), others.iter().min_by(by_distance))
    else {
        return;
    };
    if yardstick.found.mean <= 0.0 || nearest.found.mean <= yardstick.found.mean {
        return;
    }
    let citations = nearest.citations.iter().chain(&yardstick.citations).cloned();
    let found = OtherWeights {
        pairs: others.iter().map(|one| &one.found.names).collect(),
        sharing: kernels.len(),
        phase,
        metric,
        nearest: &nearest.found,
        yardstick: &yardstick.found,
    };
    parts.find(&Found::OtherWeights(found), in_order(citations));
}
