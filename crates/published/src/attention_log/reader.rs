//! Reader for the log of the attention experiment: evidence of one GPU replayed on another, claimed against verified
//! attention implementation (`attention_cross_hardware_verification.log`).
//!
//! The log prints only averages over references. Left out: whether its figures follow (`definitions`).

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::error::Result;
use mantissa_evidence::verification::{CellKey, Machine, Relation, Verification};
use mantissa_numerics::Phase;

use crate::log::lines::Lines;
use crate::log::printed::{Placed, Printed, PrintedMatrix};

/// The whole log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttentionLog {
    /// GPU of the machine that wrote the log.
    pub(crate) gpu: String,
    /// Its name.
    pub(crate) hostname: String,
    /// Documents the prompts were cut from.
    pub(crate) documents: Vec<String>,
    /// Their tokens.
    pub(crate) source_tokens: Placed<u64>,
    /// Tokens of prefix, snippet and suffix, and their stated sum.
    pub(crate) prompt: Placed<[u64; 4]>,
    /// Prompts made.
    pub(crate) prompts: Placed<u64>,
    /// The evidence that was replayed.
    pub(crate) reference_file: String,
    /// GPU of the evidence.
    pub(crate) generator_gpu: String,
    /// GPU of the replay.
    pub(crate) verifier_gpu: String,
    /// Versions compared.
    pub(crate) versions: Vec<VersionCheck>,
    /// Attention implementations, in the order of every matrix.
    pub(crate) implementations: Vec<String>,
    /// Prefill, then decode.
    pub(crate) phases: [AttentionPhase; 2],
    /// Where the data went.
    pub(crate) data_file: Placed<String>,
}

/// A version on both machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VersionCheck {
    /// Of what: `torch_version`.
    pub(crate) name: String,
    /// The generator's.
    pub(crate) generator: String,
    /// The verifier's.
    pub(crate) verifier: String,
    /// The mark beside them.
    pub(crate) mark: String,
    /// Where.
    pub(crate) line: usize,
}

/// What is printed for one phase.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttentionPhase {
    /// The phase.
    pub(crate) phase: Phase,
    /// Key vectors.
    pub(crate) keys: AttentionSignal,
    /// Log-probabilities.
    pub(crate) logprobs: AttentionSignal,
}

/// What is printed for one signal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttentionSignal {
    /// Claimed rows × verified columns, averaged over references.
    pub(crate) matrix: PrintedMatrix,
    /// Mean of the diagonal.
    pub(crate) diagonal_mean: Printed,
    /// Mean off the diagonal.
    pub(crate) off_diagonal_mean: Printed,
    /// Their ratio.
    pub(crate) snr: Printed,
}

/// Reads a log from its bytes; `path` names it in errors.
pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<AttentionLog> {
    let lines = &mut Lines::new(bytes, path)?;
    lines.title("ATTENTION IMPLEMENTATION CROSS-HARDWARE EXPERIMENT", '=')?;
    let (_, [gpu]) = lines.read("GPU: {}")?;
    let (_, [hostname]) = lines.read("Hostname: {}")?;
    let source = lines.source()?;
    let (line, [made]) = lines.read("Created {} prompts")?;
    let prompts = Placed { value: lines.count(line, made)?, line };

    lines.title("VERIFICATION MODE", '=')?;
    let (_, [reference_file]) = lines.read("Loaded reference: {}")?;
    lines.expect("Environment comparison:")?;
    let (_, [generator_gpu]) = lines.read("Generator GPU: {}")?;
    let (line, [verifier_gpu]) = lines.read("Verifier GPU: {}")?;
    lines.same(line, "the verifier's GPU", &verifier_gpu, &gpu)?;
    let mut versions = Vec::new();
    while lines.at::<4>("{}: {} vs {} {}") {
        let (line, [name, generator, verifier, mark]) = lines.read("{}: {} vs {} {}")?;
        let [name, generator, verifier, mark] = [name, generator, verifier, mark].map(str::to_owned);
        versions.push(VersionCheck { name, generator, verifier, mark, line });
    }
    let implementations = replays(lines, prompts.value)?;
    let phases =
        [phase(lines, Phase::Prefill, &implementations)?, phase(lines, Phase::Decode, &implementations)?];
    lines.section("Saved to");
    let (line, [data_file]) = lines.read("Saved to: {}.json")?;
    let data_file = Placed { value: format!("{data_file}.json"), line };
    lines.end()?;
    Ok(AttentionLog {
        gpu: gpu.to_owned(),
        hostname: hostname.to_owned(),
        documents: source.documents,
        source_tokens: source.tokens,
        prompt: source.prompt,
        prompts,
        reference_file: reference_file.to_owned(),
        generator_gpu: generator_gpu.to_owned(),
        verifier_gpu: verifier_gpu.to_owned(),
        versions,
        implementations,
        phases,
        data_file,
    })
}

/// One block per verified implementation, with every claimed one and every reference in it; their names.
fn replays(lines: &mut Lines, prompts: u64) -> Result<Vec<String>> {
    let mut verified = Vec::new();
    let mut claimed: Vec<Vec<String>> = Vec::new();
    let mut line = 0;
    while lines.at::<1>("--- Verifying with: {} ---") {
        let (at, [name]) = lines.read("--- Verifying with: {} ---")?;
        line = at;
        lines.section(format!("Verifying with: {name}"));
        lines.expect(&format!("Loading model with attention: {name}"))?;
        let mut rows = Vec::new();
        while lines.at::<1>("Claimed {}:") {
            let (_, [row]) = lines.read("Claimed {}:")?;
            for index in 0..prompts {
                lines.expect(&format!("ref_{index}: done"))?;
            }
            rows.push(row.to_owned());
        }
        verified.push(name.to_owned());
        claimed.push(rows);
    }
    if verified.is_empty() {
        let (line, text) = lines.take("--- Verifying with: {} ---")?;
        return Err(lines.wrong(line, format!("'{text}' stands where '--- Verifying with: …' is expected")));
    }
    for rows in &claimed {
        lines.same(line, "the list of claimed implementations", rows, &verified)?;
    }
    Ok(verified)
}

fn phase(lines: &mut Lines, phase: Phase, labels: &[String]) -> Result<AttentionPhase> {
    let name = match phase {
        Phase::Prefill => "PREFILL",
        Phase::Decode => "DECODE",
    };
    lines.title(&format!("CROSS-HARDWARE VERIFICATION ({name})"), '=')?;
    lines.expect("AGGREGATE (average across references):")?;
    lines.expect("Rows = claimed attention, Cols = verified attention")?;
    lines.expect("Key Vectors (L2 distance):")?;
    let key_matrix = lines.matrix(labels, str::to_owned, str::to_owned)?;
    lines.expect("Logprobs (L2 distance):")?;
    let logprob_matrix = lines.matrix(labels, str::to_owned, str::to_owned)?;
    lines.title("SNR ANALYSIS", '=')?;
    lines.section(format!("SNR ANALYSIS ({name})"));
    lines.expect("Diagonal (baseline = cross-hardware, same attention):")?;
    let (line, [keys]) = lines.read("Key vectors: {}")?;
    let key_diagonal = lines.figure(line, keys)?;
    let (line, [logprobs]) = lines.read("Logprobs: {}")?;
    let logprob_diagonal = lines.figure(line, logprobs)?;
    lines.expect("Off-diagonal (different attention):")?;
    let mut signal = |pattern: &str, matrix, diagonal_mean| -> Result<AttentionSignal> {
        let (line, [mean, snr]) = lines.read(pattern)?;
        let off_diagonal_mean = lines.figure(line, mean)?;
        Ok(AttentionSignal { matrix, diagonal_mean, off_diagonal_mean, snr: lines.figure(line, snr)? })
    };
    Ok(AttentionPhase {
        phase,
        keys: signal("Key vectors - Mean: {}, SNR: {}×", key_matrix, key_diagonal)?,
        logprobs: signal("Logprobs - Mean: {}, SNR: {}×", logprob_matrix, logprob_diagonal)?,
    })
}

impl AttentionLog {
    /// The distances of prefill and of decode, as averages over references.
    #[must_use]
    pub(crate) fn distances(&self) -> Vec<Verification> {
        let differing = self.versions.iter().filter(|check| check.generator != check.verifier);
        let mismatches = differing
            .map(|check| (check.name.clone(), check.generator.clone(), check.verifier.clone()))
            .collect();
        let mut cells = BTreeMap::new();
        for printed in &self.phases {
            for (signal, of) in [("key_vectors", &printed.keys), ("logprobs", &printed.logprobs)] {
                for (claimed, row) in of.matrix.cells.iter().enumerate() {
                    for (verified, figure) in row.iter().enumerate() {
                        let key = CellKey {
                            phase: printed.phase,
                            signal: signal.to_owned(),
                            reference: None,
                            claimed,
                            verified,
                        };
                        cells.insert(key, figure.average());
                    }
                }
            }
        }
        let environment = |of: fn(&VersionCheck) -> &String| -> BTreeMap<String, String> {
            self.versions.iter().map(|check| (check.name.clone(), of(check).clone())).collect()
        };
        let mut verifier = environment(|check| &check.verifier);
        verifier.insert("hostname".to_owned(), self.hostname.clone());
        vec![Verification {
            variable: "attention".to_owned(),
            values: self.implementations.clone(),
            generator: Machine {
                gpu: self.generator_gpu.clone(),
                environment: environment(|check| &check.generator),
            },
            verifier: Machine { gpu: self.verifier_gpu.clone(), environment: verifier },
            mismatches,
            relation: Relation::ClaimedVerified,
            cells,
        }]
    }
}
