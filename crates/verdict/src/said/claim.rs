//! Sentences about claims.

use std::collections::BTreeSet;

use mantissa_evidence::Digest;

use crate::audit::claim::ClaimAnswer;
use crate::audit::difference::Difference;
use crate::found::{Claim, NotChecked, OneClass, Replayed, RestingOn, Sampled, SufficientEvidence};

/// The verdict on a claim.
pub(crate) fn claim(answer: ClaimAnswer, found: &Claim<'_>) -> String {
    match found {
        Claim::Replayed(found) => replayed(answer, found),
        Claim::Sampled(found) => sampled(answer, found),
    }
}

fn replayed(answer: ClaimAnswer, found: &Replayed<'_>) -> String {
    let fitting = || found.fits.iter().map(|(_, class)| set(class)).collect::<Vec<_>>().join(" and ");
    let first = found.first.map_or_else(String::new, |d| format!("; first difference: {}", place(d)));
    match answer {
        ClaimAnswer::Consistent => {
            let class = found.class.as_deref().map_or_else(String::new, set);
            let others = found.fits.iter().filter(|(claimed, _)| !claimed).map(|(_, class)| set(class));
            let others: Vec<String> = others.collect();
            let more = if others.is_empty() {
                String::new()
            } else {
                format!(", and on this evidence with {} as well", others.join(" and "))
            };
            format!("consistent with class {class}{more}{}", share(found.compared))
        }
        ClaimAnswer::Contradicted => format!("contradicted: fits {} instead{first}", fitting()),
        ClaimAnswer::FitsNone => format!("fits none of the candidates{first}"),
        // Said where the conflict is (`conflict`).
        ClaimAnswer::NotEnoughEvidence | ClaimAnswer::ContradictsItself => {
            let fit = if found.fits.is_empty() { String::new() } else { format!(" (it fits {})", fitting()) };
            let why = found.enough.as_ref().map_or_else(|| "nothing was compared".to_owned(), enough);
            format!("not enough evidence about the claim{fit}: {why}")
        }
    }
}

fn sampled(answer: ClaimAnswer, found: &Sampled<'_>) -> String {
    let (candidate, drawn) = (found.candidate, found.drawn);
    match answer {
        ClaimAnswer::NotEnoughEvidence | ClaimAnswer::ContradictsItself => {
            "not enough evidence about the claim: no \
            recorded value has all its inputs recorded beside it; the sites x_in, v, attn_out, x_after_attn, \
            ffn_norm, mlp_out and x_out of one layer would be enough"
                .to_owned()
        }
        ClaimAnswer::Consistent => {
            let [population, recorded] = found.reach;
            let of =
                format!(", drawn from {population} of {recorded} recorded values ({})", percent(found.reach));
            format!("consistent with {candidate} at each of {drawn} sampled values{of}")
        }
        ClaimAnswer::Contradicted | ClaimAnswer::FitsNone => {
            let first = found.first.map_or_else(String::new, |d| format!("; first: {}", place(d)));
            format!(
                "contradicted: {} of {drawn} sampled values are not what {candidate} computes from their \
                 recorded inputs{first}",
                found.different
            )
        }
    }
}

/// What a headline adds where not everything that was recorded could be compared.
fn share([compared, recorded]: [u64; 2]) -> String {
    if compared >= recorded {
        return String::new();
    }
    format!(
        ", at the {compared} of {recorded} recorded values ({}) that were compared",
        percent([compared, recorded])
    )
}

/// A part of a whole in percent, never 0 or 100 where it is not.
fn percent([part, whole]: [u64; 2]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    if part > 0 && percent < 0.1 {
        "less than 0.1%".to_owned()
    } else if part < whole && percent > 99.9 {
        "more than 99.9%".to_owned()
    } else if part == whole {
        "all".to_owned()
    } else {
        format!("{percent:.1}%")
    }
}

/// What would have been enough.
pub(crate) fn enough(found: &SufficientEvidence<'_>) -> String {
    match found {
        SufficientEvidence::AsSaid(why) => (*why).to_owned(),
        SufficientEvidence::Repetitions { runs, level, needed } => format!(
            "the evidence's own repetitions differ, and its {runs} are too few for any corrected p-value below \
             {level}; {needed} of each prompt would be enough for these candidates"
        ),
        SufficientEvidence::ARun => {
            "the evidence holds no run of this setup; one with token ids and signals would be enough"
                .to_owned()
        }
        SufficientEvidence::PromptPass => {
            "nothing of the prompt's own pass is recorded; that, or a replay by decode, would be enough"
                .to_owned()
        }
        SufficientEvidence::AnySignal => {
            "no recorded value could be compared; hidden states or keys of any layer would be enough"
                .to_owned()
        }
        SufficientEvidence::Inputs => "evidence that holds the inputs of recorded values".to_owned(),
    }
}

/// What cannot be told apart, and why.
pub(crate) fn one_class(found: &OneClass<'_>) -> String {
    match found {
        OneClass::SameKernels(class) => {
            format!("{}: every kernel of every pass computes the same, so no evidence can tell them apart", set(class))
        }
        OneClass::SameBitsHere(classes) => format!(
            "{}: other kernels that left the same bits at all compared sites; more positions, layers or tokens \
             could tell them apart",
            classes.iter().map(|class| set(class)).collect::<Vec<_>>().join(" and ")
        ),
        OneClass::BatchSizesByPrefill => "batch sizes, by a replay in one pass: it has hundreds of rows at any batch \
            size, and the kernels that many rows choose are the same; a replay by decode has as many rows as the \
            batch, which is where batch sizes differ"
            .to_owned(),
        OneClass::NotDrawn => {
            "setups whose kernels compute the same, and any whose values differ only where none was drawn".to_owned()
        }
    }
}

/// What was not checked, and why: each line once.
pub(crate) fn not_checked(found: &[NotChecked<'_>]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for one in found {
        let line = match one {
            NotChecked::Candidates { names, why } => format!("{}: {why}", names.join(", ")),
            NotChecked::Claim(why) => format!("the claim itself: {why}"),
            NotChecked::Run { reference, repetition, why } => format!("ref {reference} rep {repetition}: {why}"),
            NotChecked::Rows { phase, why } => format!("{}: {why}", phase.name()),
            NotChecked::Unproven(name) => format!(
                "{name}: its recipes are from literature and were compared with no hardware, so that it fits would \
                 be no evidence"
            ),
            NotChecked::DecodeByPrefill => "decode rows: they were generated one position at a time, and one pass \
                over all computes them by other kernels, so their bits say nothing about the claim; a replay by \
                decode does"
                .to_owned(),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// What a verdict adds where its recipes are from catalogs of its user.
pub(crate) fn resting_on(found: &RestingOn) -> String {
    let listed = |digests: &BTreeSet<Digest>| {
        let noun = if digests.len() == 1 { "a catalog" } else { "catalogs" };
        (noun, digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    };
    let measured = (!found.measured.is_empty()).then(|| {
        let (noun, digests) = listed(&found.measured);
        format!(
            "; this rests on {noun} measured by its user (blake3 {digests}), not on verified recipes alone"
        )
    });
    let asked = (!found.asked.is_empty()).then(|| {
        let (noun, digests) = listed(&found.asked);
        format!(
            "; of some products the order of the sum is what cuBLAS itself names ({noun}, blake3 {digests}): such sums \
             were compared at other sizes, not at theirs"
        )
    });
    measured.into_iter().chain(asked).collect()
}

fn set(class: &[String]) -> String {
    format!("{{{}}}", class.join(", "))
}

/// A place in words.
fn place(d: &Difference) -> String {
    let position = d.position.map_or_else(String::new, |position| format!(" position {position}"));
    let element = d.element.map_or_else(String::new, |element| format!("[{element}]"));
    format!(
        "{}, {} step {}{position} {}{element} ({} where the replay has {})",
        d.run,
        d.phase.name(),
        d.step,
        d.site,
        d.evidence,
        d.replay
    )
}
