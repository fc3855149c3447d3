//! What an analysis says that contradicts something else it says.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_numerics::Phase;
use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{Answer, Citation, FindingKind, Outcome, State, Tier};

/// The file that a statement is about.
fn file(citations: &[Citation]) -> Option<&str> {
    citations.first().map(|citation| citation.source.as_str())
}

/// What contradicts what, each in a line.
pub(crate) fn contradictions(analysis: &Analysis) -> Vec<String> {
    let mut found = Vec::new();
    let says_apart = |answer| answer == Answer::Separable;
    let says_alike = |answer| matches!(answer, Answer::Identical | Answer::NotSeparable);

    let mut asked = BTreeMap::new();
    for pair in &analysis.pairs {
        let names = BTreeSet::from([&pair.a, &pair.b]);
        // A pair is asked about once in each direction: what one claims, the other was verified as.
        let question = (file(&pair.citations), pair.comparison, &pair.a, &pair.b, pair.phase, pair.signal);
        if let Some(known) = asked.insert(question, pair) {
            found.push(format!("two verdicts on {names:?}: {} {}", known.sentence, pair.sentence));
        }
    }
    for (index, set) in analysis.classes.iter().enumerate() {
        let place = |name: &String| set.classes.iter().position(|class| class.contains(name));
        let mine = |phase: Phase, citations: &[Citation]| {
            phase == set.phase && file(citations) == file(&set.citations)
        };
        let pairs = analysis.pairs.iter();
        let pairs = pairs.filter(|one| mine(one.phase, &one.citations) && set.signals.contains(&one.signal));
        for pair in pairs {
            let (Some(a), Some(b)) = (place(&pair.a), place(&pair.b)) else { continue };
            if a == b && pair.a != pair.b && says_apart(pair.answer) {
                found.push(format!("one class, and separable: {} {:?}", pair.sentence, set.classes));
            }
            if a != b && says_alike(pair.answer) && pair.tier == Tier::Exact {
                found.push(format!("two classes, and alike: {} {:?}", pair.sentence, set.classes));
            }
        }
        for name in set.classes.iter().flatten() {
            if set.classes.iter().flatten().filter(|other| *other == name).count() > 1 {
                found.push(format!("{name} is in two classes of one set: {:?}", set.classes));
            }
            if set.unplaced.iter().any(|(unplaced, _)| unplaced == name) {
                found.push(format!("{name} is in a class and in none: {:?}", set.classes));
            }
        }
        for other in &analysis.classes[..index] {
            let alike = (other.phase, &other.scope, &other.signals) == (set.phase, &set.scope, &set.signals)
                && file(&other.citations) == file(&set.citations);
            if alike && other.classes != set.classes {
                found.push(format!("two sets of classes: {:?} {:?}", other.classes, set.classes));
            }
        }
    }
    for repeats in &analysis.reproducibility {
        let about = |phase| repeats.phase.is_none_or(|mine| mine == phase);
        let twice = analysis.reproducibility.iter().filter(|other| {
            (&other.setup, other.phase) == (&repeats.setup, repeats.phase)
                && file(&other.citations) == file(&repeats.citations)
                && other.state != repeats.state
        });
        found.extend(twice.map(|other| format!("{} {}", repeats.note, other.note)));
        if repeats.state != State::Different {
            continue;
        }
        let exact = analysis.pairs.iter().filter(|one| {
            about(one.phase)
                && file(&one.citations) == file(&repeats.citations)
                && [&one.a, &one.b].contains(&&repeats.setup)
                && one.tier == Tier::Exact
                && one.answer != Answer::Incomparable
        });
        found.extend(exact.map(|one| format!("{} {}", repeats.note, one.sentence)));
    }
    let kinds: Vec<FindingKind> = analysis.findings.iter().map(|finding| finding.kind).collect();
    let differs = [FindingKind::Separable, FindingKind::TokensDiverge, FindingKind::OtherWeights];
    if analysis.outcome == Outcome::Consistent && kinds.iter().any(|kind| differs.contains(kind)) {
        found.push("consistent, and a finding says that something differs".to_owned());
    }
    let shows = |pair: &mantissa_verdict::analysis::PairVerdict| says_apart(pair.answer);
    if analysis.pairs.iter().any(shows) && analysis.outcome != Outcome::Divergent {
        found.push(format!("a separable pair, and the outcome is {:?}", analysis.outcome));
    }
    let mut sentences = BTreeSet::new();
    for finding in &analysis.findings {
        if !sentences.insert(&finding.sentence) {
            found.push(format!("said twice: {}", finding.sentence));
        }
    }
    found
}
