//! The default mode: what evidence supports, pair by pair, with tokens and bits before statistics.
//!
//! Signals are judged by `signals`, distances that others measured by `stored`; both fill the same [`Analysis`]. Left
//! out: the published definitions, which reproduce old tables and are no verdict, and how anything looks.

mod again;
mod bits;
mod classes;
mod distances;
mod divergence;
mod equivalence;
mod facts;
mod figures;
mod input;
mod measure;
mod opened;
mod options;
mod ordered;
mod parts;
mod recorded;
mod repeats;
mod replays;
mod separation;
mod setups;
mod signal_key;
mod signals;
mod statistics;
mod stored;
mod stored_exact;
mod stored_lines;
mod stored_matrix;
mod stored_pairs;
mod stored_tokens;
mod tokens;
mod values;
mod weights;

use mantissa_evidence::{Record, Verification};
use mantissa_published::Content;

pub use input::{Evidence, StatedRepeats, StatedTokens};
pub use options::Options;

use crate::analysis::{
    ANALYSIS_VERSION, Answer, Finding, FindingKind, Mode, Outcome, Question, Source, State, Threshold,
};
use crate::found::Found;
use crate::{Analysis, Result, VerdictError, thresholds};
use distances::Stored;
use parts::Parts;

/// Judges opened files together: signals pooled over files, distances of others file by file.
///
/// *Errors:* as [`judge_evidence`].
///
/// ```
/// use std::path::Path;
///
/// use mantissa_published::open;
/// use mantissa_verdict::analysis::{Outcome, Source};
/// use mantissa_verdict::{Options, judge};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/evidence/v1/container");
/// let opened = open(Path::new(path))?;
/// let analysis = judge(&[(Source::from(&opened), &opened.content)], &Options::default())?;
/// // One setup, whose repetitions differ.
/// assert_eq!(analysis.outcome, Outcome::Divergent);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn judge(sources: &[(Source, &Content)], options: &Options) -> Result<Analysis> {
    let signals: Vec<Option<Record>> =
        sources.iter().map(|(source, content)| opened::signals(content, source)).collect();
    let evidence: Vec<Evidence<'_>> = sources
        .iter()
        .zip(&signals)
        .map(|((source, content), signals)| opened::evidence(source, content, signals.as_ref()))
        .collect();
    judge_evidence(&evidence, options)
}

/// Judges evidence that was opened already.
///
/// The files' order, that of what they hold, and copies of a file are nothing to it.
///
/// *Errors:* an unknown variable or reference; a level outside (0, 1); an effect of 1 or less; evidence that cannot be
/// read.
///
/// ```
/// use mantissa_published::{Content, open};
/// use mantissa_verdict::analysis::Source;
/// use mantissa_verdict::judge::{Evidence, judge_evidence};
/// use mantissa_verdict::{Options, judge};
///
/// let opened = open("../../fixtures/evidence/v1/container".as_ref())?;
/// let (source, options) = (Source::from(&opened), Options::default());
/// let Content::Record(record) = &opened.content else { panic!("a record") };
/// let analysis = judge_evidence(&[Evidence::of_record(&source, record)], &options)?;
/// assert_eq!(analysis, judge(&[(source.clone(), &opened.content)], &options)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn judge_evidence(evidence: &[Evidence<'_>], options: &Options) -> Result<Analysis> {
    for (what, value) in [("alpha", options.alpha), ("confidence", options.confidence)] {
        if !(value > 0.0 && value < 1.0) {
            return Err(VerdictError::OutOfRange { what, value, range: "between 0 and 1, both excluded" });
        }
    }
    if !(options.effect > 1.0 && options.effect.is_finite()) {
        let (what, value) = ("effect", options.effect);
        return Err(VerdictError::OutOfRange { what, value, range: "between 1 and infinity, both excluded" });
    }
    let ordered::Files { kept: evidence, copies } = ordered::files(evidence)?;
    let mut parts = Parts::default();
    for (copy, of) in copies {
        let found = Found::FileCopy { file: &copy.source.name, of: &of.source.name };
        parts.find(&found, vec![copy.cite("the whole file")]);
    }
    let question = signals::judge(&evidence, options, &mut parts)?;
    let mut variable = question.as_ref().map(|question| question.variable.clone());
    for &one in &evidence {
        let canonical: Vec<Verification> = one.verifications.iter().map(ordered::canonical).collect();
        let verifications: Vec<Stored<'_>> =
            canonical.iter().map(|verification| stored_tokens::stored(one, verification, options)).collect();
        if one.record.is_none() {
            for tokens in stored_tokens::stated(one) {
                parts.add_tokens(tokens);
            }
            for stated in &one.repeats {
                parts.add_repeats(repeats::as_stated(one, stated, &stated.setup));
            }
        }
        for stored in &verifications {
            let of_file = setups::canonical(&stored.verification.variable);
            if options.variable.as_ref().is_some_and(|asked| setups::canonical(asked) != of_file) {
                let found = Found::OtherVariable { file: &one.source.name, variable: &of_file };
                parts.find(&found, vec![one.cite("metadata")]);
                continue;
            }
            variable.get_or_insert(of_file);
            stored::judge(stored, options, &mut parts)?;
        }
    }
    if let (None, Some(asked)) = (&question, &options.reference) {
        let known: Vec<String> =
            evidence.iter().flat_map(|one| &one.verifications).flat_map(|one| one.values.clone()).collect();
        if !known.contains(asked) {
            return Err(VerdictError::UnknownReference {
                reference: asked.clone(),
                known: setups::in_order(known),
            });
        }
    }
    parts.say_unsaid();
    parts::most_important_first(&mut parts.findings);
    let question = Question {
        variable: variable.or_else(|| options.variable.clone()).unwrap_or_else(|| "configuration".to_owned()),
        reference: question.map_or_else(|| options.reference.clone(), |question| question.reference),
        signals: parts.signals.iter().copied().collect(),
    };
    Ok(Analysis {
        analysis_version: ANALYSIS_VERSION,
        mode: Mode::Default,
        sources: evidence.iter().map(|one| one.source.clone()).collect(),
        outcome: outcome(&parts),
        question,
        findings: parts.findings,
        tokens: parts.tokens,
        reproducibility: parts.reproducibility,
        classes: parts.classes,
        pairs: parts.pairs,
        matrices: parts.matrices,
        profiles: parts.profiles,
        first_differences: parts.first_differences,
        bounds: parts.bounds,
        tables: Vec::new(),
        published: Vec::new(),
        thresholds: used(&parts.thresholds, options),
    })
}

/// The answer in one word: divergent as soon as anything compared differs or a finding says so, consistent where
/// everything could be compared and has the same bits, else not enough evidence.
fn outcome(parts: &Parts) -> Outcome {
    let says_so = |finding: &Finding| {
        matches!(
            finding.kind,
            FindingKind::Separable | FindingKind::NonDeterministic | FindingKind::TokensDiverge
        )
    };
    let divergent = parts.findings.iter().any(says_so)
        || parts.pairs.iter().any(|pair| pair.answer == Answer::Separable)
        || parts.reproducibility.iter().any(|one| one.state == State::Different)
        || parts.tokens.iter().any(|one| one.groups.len() > 1);
    if divergent {
        return Outcome::Divergent;
    }
    let agrees = parts.pairs.iter().all(|pair| pair.answer == Answer::Identical)
        && parts.classes.iter().all(|set| set.classes.len() < 2 && set.unplaced.is_empty());
    let repeated = parts.reproducibility.iter().any(|one| one.state == State::Equal);
    // One repetition is no gap; several of which some lack rows are.
    let gaps = parts.tokens.iter().any(|one| !one.stopped.is_empty())
        || parts.reproducibility.iter().any(|one| {
            matches!(one.state, State::Missing | State::Incomparable) && one.repetitions.is_none_or(|n| n > 1)
        });
    if agrees && !gaps && (!parts.pairs.is_empty() || repeated) {
        Outcome::Consistent
    } else {
        Outcome::NotEnoughEvidence
    }
}

fn used(names: &std::collections::BTreeSet<&'static str>, options: &Options) -> Vec<Threshold> {
    let all = [
        thresholds::alpha(options.alpha),
        thresholds::confidence(options.confidence),
        thresholds::effect(options.effect),
    ];
    all.into_iter().filter(|threshold| names.contains(threshold.name.as_str())).collect()
}
