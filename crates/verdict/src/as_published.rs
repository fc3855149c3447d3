//! The published definitions, to reproduce old figures digit for digit. Not a verdict.
//!
//! Pooled quotients, dropped `inf`, ranks instead of ids, the smallest value as reference, cut-offs in words: everything
//! that `judge` deliberately does not do, applied to each file by itself. What follows from a file's own data, and
//! what does not or means something else, is said figure by figure. Left out: any opinion about setups.

mod activations;
mod attention;
pub mod attention_log;
mod batch;
pub mod batch_matrix_log;
mod definitions;
mod pairs;
mod printed;
mod quantization;
pub mod quantization_log;
mod sheet;
mod uniform;

use mantissa_evidence::published::Published;
use mantissa_evidence::{Content, Record};

use crate::analysis::{ANALYSIS_VERSION, Agreement, Analysis, Mode, Outcome, Question, Signal, Source};
use crate::error::Result;
use crate::judge::Options;
pub use printed::LogFigures;
use sheet::Sheet;

/// Applies the published definitions to each file.
///
/// Of `options` the signals matter, and only for experiments, where the script takes one: key vectors unless another
/// is asked for.
pub fn as_published(sources: &[(Source, &Content)], options: &Options) -> Result<Analysis> {
    let mut analysis = Analysis {
        analysis_version: ANALYSIS_VERSION,
        mode: Mode::AsPublished,
        sources: sources.iter().map(|(source, _)| source.clone()).collect(),
        question: Question { variable: String::new(), reference: None, signals: Vec::new() },
        outcome: Outcome::NotEnoughEvidence,
        findings: Vec::new(),
        tokens: Vec::new(),
        reproducibility: Vec::new(),
        classes: Vec::new(),
        pairs: Vec::new(),
        matrices: Vec::new(),
        profiles: Vec::new(),
        bounds: Vec::new(),
        tables: Vec::new(),
        published: Vec::new(),
        thresholds: Vec::new(),
    };
    let mut variables: Vec<String> = Vec::new();
    let mut experiments = uniform::Summary::default();
    for (source, content) in sources {
        let mut sheet = Sheet::new(source, &mut analysis);
        let variable = match content {
            Content::Record(record) => experiment(&mut sheet, record, options, &mut experiments)?,
            Content::Published(published) => file(&mut sheet, published, source, sources),
        };
        if !variables.contains(&variable) {
            variables.push(variable);
        }
    }
    experiments.table(&mut analysis);
    analysis.question.variable = variables.join(", ");
    analysis.question.signals.sort_unstable();
    analysis.outcome = outcome(&analysis, &experiments);
    Ok(analysis)
}

/// One published file; gives the variable that it is about.
fn file(
    sheet: &mut Sheet<'_>,
    published: &Published,
    source: &Source,
    sources: &[(Source, &Content)],
) -> String {
    let variable = match published {
        Published::Activations(file) => activations::fill(sheet, file),
        Published::BatchGeneration(file) => batch::generation(sheet, file),
        Published::BatchVerification(file) => batch::verification(sheet, file),
        Published::QuantGeneration(file) => quantization::generation(sheet, file),
        Published::QuantVerification(file) => quantization::verification(sheet, file),
        Published::AttentionVerification(file) => attention::verification(sheet, file),
        Published::BatchMatrixLog(log) => {
            sheet.log(batch_matrix_log::figures(log, &source.name), &[Signal::KeyVectors, Signal::Logprobs]);
            "batch_size"
        }
        Published::AttentionLog(log) => {
            let companion = others(sources).find_map(|other| match other {
                Published::AttentionVerification(file) => Some(file),
                _ => None,
            });
            sheet.log(
                attention_log::figures(log, &source.name, companion),
                &[Signal::KeyVectors, Signal::Logprobs],
            );
            "attention"
        }
        Published::QuantizationLog(log) => {
            let companion = others(sources).find_map(|other| match other {
                Published::QuantGeneration(file) => Some(file),
                _ => None,
            });
            sheet.log(quantization_log::figures(log, &source.name, companion), &[Signal::Logprobs]);
            "quantization"
        }
    };
    variable.to_owned()
}

/// The published files among the sources, where a log may find its companion.
fn others<'a>(sources: &'a [(Source, &Content)]) -> impl Iterator<Item = &'a Published> {
    sources.iter().filter_map(|(_, content)| match content {
        Content::Published(published) => Some(published),
        Content::Record(_) => None,
    })
}

/// One experiment; gives the variable that it is about.
fn experiment(
    sheet: &mut Sheet<'_>,
    record: &Record,
    options: &Options,
    experiments: &mut uniform::Summary,
) -> Result<String> {
    let asked = |signal: &Signal| options.signals.as_ref().is_some_and(|signals| signals.contains(signal));
    let signals = [Signal::KeyVectors, Signal::HiddenStates, Signal::Logprobs];
    let signal = signals.into_iter().find(asked).unwrap_or(Signal::KeyVectors);
    uniform::fill(sheet, record, signal, experiments)?;
    Ok(record.shell().metadata.variable_tested.clone())
}

/// Divergent when a figure does not follow from its file or the script found a distance; consistent when figures or
/// distances were there and none did.
fn outcome(analysis: &Analysis, experiments: &uniform::Summary) -> Outcome {
    let fails = |agreement| agreement == Agreement::DoesNotFollow;
    if experiments.differs || analysis.published.iter().any(|figure| fails(figure.agreement)) {
        Outcome::Divergent
    } else if experiments.compared || !analysis.published.is_empty() {
        Outcome::Consistent
    } else {
        Outcome::NotEnoughEvidence
    }
}
