//! Is a difference too large to be rounding?
//!
//! Setups that declare the same weights differ by their kernels alone: the largest such distance in a file is the
//! yardstick for setups that declare other weights. Without a yardstick nothing is said. Left out: a judgement on
//! setups that declare nothing.

use mantissa_numerics::Phase;

use super::facts::cite;
use super::parts::Parts;
use super::signals::Known;
use super::stored::Stored;
use super::words;
use crate::analysis::{Citation, FindingKind, Signal};
use crate::thresholds::OTHER_WEIGHTS;

/// How far apart the log-probabilities of two setups are.
struct Distance {
    /// What the setups are called, and the models they declare.
    names: [String; 2],
    models: [String; 2],
    mean: f64,
    /// Mean over rows of the probability mass outside the common candidates, where known.
    moved: Option<f64>,
    references: u64,
    citations: Vec<Citation>,
}

/// Finds setups whose log-probabilities lie farther apart than kernels can put them.
pub(super) fn other_weights(known: &Known<'_>, parts: &mut Parts) {
    for hardware in known.setups.hardware() {
        let on = known.setups.on(hardware);
        for phase in [Phase::Prefill, Phase::Decode] {
            let pairs =
                on.iter().enumerate().flat_map(|(index, &a)| on[index + 1..].iter().map(move |&b| (a, b)));
            let distances = pairs.filter_map(|(a, b)| measured(known, a, b, phase)).collect();
            judge(phase, "root mean square over common token ids", distances, parts);
        }
    }
}

/// The same for distances that others measured, where the file declares the models.
pub(super) fn other_weights_stored(stored: &Stored<'_>, parts: &mut Parts) {
    for phase in [Phase::Prefill, Phase::Decode] {
        let end = stored.values().end;
        let pairs = stored.values().flat_map(|a| (a + 1..end).map(move |b| (a, b)));
        let distances = pairs.filter_map(|(a, b)| distance(stored, a, b, phase)).collect();
        judge(phase, "L2 as stored", distances, parts);
    }
}

fn measured(known: &Known<'_>, a: usize, b: usize, phase: Phase) -> Option<Distance> {
    known.setups.model(a).zip(known.setups.model(b))?;
    let lane = (phase, Signal::Logprobs);
    let summary = known.facts.summary(a, b, lane);
    let found = summary.compared.iter().filter_map(|&prompt| known.facts.measured(a, b, prompt, lane));
    let moved: Vec<f64> = found.flat_map(|found| found.moved.clone()).collect();
    Some(Distance {
        names: [a, b].map(|setup| known.label(setup).to_owned()),
        models: [a, b].map(|setup| known.setups.model(setup).unwrap_or_default().to_owned()),
        mean: summary.distance?,
        moved: words::mean(&moved),
        references: summary.compared.len() as u64,
        citations: cite(&known.setups, &[a, b], &summary.compared),
    })
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
        means.extend(words::mean(&values));
        references += u64::from(!values.is_empty());
        citations.extend(cells.iter().map(|cell| stored.evidence.cite(cell.place.clone())));
    }
    Some(Distance { names, models, mean: words::mean(&means)?, moved: None, references, citations })
}

fn judge(phase: Phase, metric: &str, distances: Vec<Distance>, parts: &mut Parts) {
    let (kernels, others): (Vec<Distance>, Vec<Distance>) =
        distances.into_iter().partition(|one| one.models[0] == one.models[1]);
    let Some(yardstick) =
        kernels.iter().max_by(|x, y| x.mean.total_cmp(&y.mean)).filter(|one| one.mean > 0.0)
    else {
        return;
    };
    if others.is_empty() {
        return;
    }
    parts.thresholds.insert("other_weights");
    let far: Vec<&Distance> =
        others.iter().filter(|one| one.mean >= OTHER_WEIGHTS * yardstick.mean).collect();
    let Some(nearest) = far.iter().min_by(|x, y| x.mean.total_cmp(&y.mean)) else { return };
    let pairs: Vec<String> = far.iter().map(|one| one.names.join(" and ")).collect();
    let moved = nearest.moved.map_or(String::new(), |moved| {
        format!(", with {} of the probability outside the common candidates", words::figure(moved))
    });
    let sentence = format!(
        "{} differ in weights, not only in kernels: they declare {}, and the {} log-probabilities of the nearest such \
         pair ({}) lie {} nats apart ({metric}, {}), {} times the largest distance between kernels that share weights \
         ({}: {}){moved}.",
        pairs.join("; "),
        nearest.models.join(" and "),
        phase.name(),
        nearest.names.join(" and "),
        words::figure(nearest.mean),
        words::count(nearest.references, "reference"),
        words::figure(nearest.mean / yardstick.mean),
        yardstick.names.join(" and "),
        words::figure(yardstick.mean),
    );
    let citations = nearest.citations.iter().chain(&yardstick.citations).cloned();
    parts.find(FindingKind::NotRounding, sentence, super::setups::in_order(citations));
}
