//! `attention_verification_*.json`: diagonal and off-diagonal means and their quotient.

use mantissa_evidence::verification::Relation;
use mantissa_numerics::Phase;

use super::reader::{File, PhaseDistances};
use crate::definitions::arithmetic::{diagonal, mean, off_diagonal, quotient};
use crate::definitions::pairs::{self, Pair};
use crate::sheet::{Heading, Sheet, Signal};

/// Means on and off the diagonal, and their quotients.
pub(crate) fn sheet(file: &File) -> Sheet {
    let mut sheet = Sheet::of("attention");
    let labels: Vec<String> = file.metadata.reference_environments.keys().cloned().collect();
    for phase in [Phase::Prefill, Phase::Decode] {
        let distances = file.distances(phase);
        for signal in [Signal::KeyVectors, Signal::Logprobs] {
            fill(&mut sheet, &labels, phase, signal, distances);
        }
    }
    sheet.finding(
        "no distance of a single reference is stored, so neither an interval nor a p-value can be computed for any of \
         these figures; how many references were averaged is not in the file either",
        &["cross_hardware"],
    );
    sheet
}

fn fill(sheet: &mut Sheet, labels: &[String], phase: Phase, signal: Signal, stored: &PhaseDistances) {
    let (word, short, matrix) = match signal {
        Signal::Logprobs => ("log-probabilities", "logprob", &stored.logprob_matrix),
        _ => ("key vectors", "key", &stored.key_matrix),
    };
    if matrix.is_empty() {
        return;
    }
    let (stored_diagonal, stored_off, stored_snr) = match signal {
        Signal::Logprobs => (stored.diagonal_logprob, stored.off_diagonal_logprob, stored.logprob_snr),
        _ => (stored.diagonal_key, stored.off_diagonal_key, stored.key_snr),
    };
    let place = format!("cross_hardware.{}", phase.name());
    let (noise, off) = (mean(&diagonal(matrix)), mean(&off_diagonal(matrix, |_, _| true)));
    let about = format!("{word}, {}", phase.name());
    sheet.figure(
        &format!("diagonal mean, {about}"),
        stored_diagonal,
        noise,
        &format!("{place}.diagonal_{short}"),
    );
    sheet.figure(
        &format!("off-diagonal mean, {about}"),
        stored_off,
        off,
        &format!("{place}.off_diagonal_{short}"),
    );
    let snr = quotient(off, noise);
    let snr_place = format!("{place}.{short}_snr");
    sheet.figure(&format!("SNR, {about}"), stored_snr, snr, &snr_place);
    sheet.text(
        &format!("SNR as printed, {about}"),
        stored_snr.map(|snr| format!("{snr:.2}×")),
        format!("{snr:.2}×"),
        &snr_place,
        None,
    );
    let matrix_place = format!("{place}.{short}_matrix");
    let title = format!("{about}, claimed against verified attention");
    let heading = Heading {
        title: &title,
        relation: Relation::ClaimedVerified,
        phase,
        signal,
        statistic: "L2, mean over positions and references",
        place: &matrix_place,
    };
    sheet.matrix(&heading, labels, matrix, 0);
    let all = pairs::of(labels, matrix);
    pairs::table(sheet, &format!("pair by pair, {about}"), &all);
    let place = [matrix_place.as_str(), snr_place.as_str()];
    pairs::pooled(sheet, &about, snr, &all, &place);
    let noisiest = diagonal(matrix).into_iter().fold(0.0, f64::max);
    let share = noisiest / diagonal(matrix).iter().sum::<f64>();
    if let Some(index) = diagonal(matrix).iter().position(|value| value.to_bits() == noisiest.to_bits())
        && share > 0.5
    {
        sheet.finding(
            format!(
                "the noise of {about} is {:.0} % that of {} alone ({noisiest:.3}), yet it is the divisor for every \
                 pair",
                share * 100.0,
                labels[index]
            ),
            &[&matrix_place],
        );
    }
    let mirrored = all.iter().max_by(|a, b| a.asymmetry().total_cmp(&b.asymmetry()));
    if let Some(Pair { a, b, forward, backward, .. }) = mirrored.filter(|pair| pair.asymmetry() > 1.5) {
        sheet.finding(
            format!(
                "{about}: claiming {a} and verifying {b} gives {forward:.3}, the reverse {backward:.3}: the direction \
                 matters and the pooled mean hides it"
            ),
            &[&matrix_place],
        );
    }
}
