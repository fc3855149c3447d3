//! Reader for logs that print a matrix per reference: which matrix is of what is told by the titles before it.
//!
//! A matrix is a line of labels and a line for each of them. Left out: whether averages follow (`definitions`).

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::error::Result;
use mantissa_evidence::verification::{CellKey, Machine, Relation, Verification};
use mantissa_numerics::Phase;

use super::section::{Group, Section};
use super::summary::{Summaries, Summary};
use crate::json::entries::NOT_STATED;
use crate::log::lines::{Lines, fields};
use crate::log::printed::{Printed, PrintedMatrix};
use crate::sheet::Signal;
use crate::stated::StatedTokens;

/// What is read of such a log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MatrixLog {
    /// The setup field that varies.
    pub(crate) variable: &'static str,
    /// GPU of the machine that wrote it, and of the one whose evidence it verified.
    pub(crate) gpu: [String; 2],
    /// Model, where named.
    pub(crate) model: Option<String>,
    /// Versions, by name.
    pub(crate) environment: BTreeMap<String, String>,
    /// Matrices in the order of the log.
    pub(crate) matrices: Vec<LogMatrix>,
    /// What is printed about them.
    pub(crate) summaries: Vec<Summary>,
    /// Output ids by reference and value.
    pub(crate) outputs: Vec<StatedTokens>,
}

/// A matrix and what it is of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogMatrix {
    /// What it is of.
    pub(crate) group: Group,
    /// The reference; absent for the average over references.
    pub(crate) reference: Option<String>,
    /// Its figures.
    pub(crate) printed: PrintedMatrix,
}

/// What stands behind the last matrix of a log that was not cut.
const ENDINGS: [&str; 3] = ["aved to: ", "EXPERIMENT COMPLETE", "Next step: "];

/// Reads a log from its bytes; `path` names it in errors.
pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<MatrixLog> {
    let lines = &mut Lines::new(bytes, path)?;
    let mut log = MatrixLog {
        variable: "",
        gpu: [NOT_STATED.to_owned(), NOT_STATED.to_owned()],
        model: None,
        environment: BTreeMap::new(),
        matrices: Vec::new(),
        summaries: Vec::new(),
        outputs: Vec::new(),
    };
    let mut section =
        Section { phase: Phase::Prefill, across: false, signal: Signal::Logprobs, reference: None };
    let mut summaries = Summaries::default();
    let (mut after_rule, mut value, mut ended) = (false, None, false);
    while let Some(text) = lines.peek() {
        if let Some(labels) = heading(text).or_else(|| words(lines)) {
            let across = text.contains("v_") || section.across;
            let printed = matrix(lines, &labels)?;
            let group = Group { across, ..section.group(None) };
            log.matrices.push(LogMatrix { group, reference: section.reference.clone(), printed });
            (after_rule, ended) = (false, false);
            continue;
        }
        let (line, text) = lines.take("a line")?;
        let rule = text.len() >= 10 && text.chars().all(|c| c == '=');
        if rule {
            summaries.leave();
        } else {
            if after_rule {
                lines.section(text);
                about(&mut log, text);
            }
            section.enter(text, after_rule);
            ended |= ENDINGS.iter().any(|ending| text.contains(ending));
            stated(&mut log, text);
            log.summaries.extend(summaries.take(lines, line, text, &section)?);
            if let Some([size]) = fields::<1>(text, "bs={}:") {
                value = Some(size.to_owned());
            }
            if let (Some([ids]), Some(value), Some(reference)) =
                (fields::<1>(text, "IDs: [{}]"), &value, &section.reference)
            {
                log.outputs.push(output(lines, line, ids, reference, value)?);
            }
        }
        after_rule = rule;
    }
    whole(&log, lines)?;
    if !ended {
        lines.section("the end of the log");
        lines.take("Saved to: … or EXPERIMENT COMPLETE")?;
    }
    Ok(log)
}

/// The variable that a title names.
fn about(log: &mut MatrixLog, title: &str) {
    let variables =
        [("BATCH SIZE", "batch_size"), ("TENSOR PARALLEL", "tp_size"), ("QUANTIZATION", "quantization")];
    if log.variable.is_empty()
        && let Some((_, variable)) = variables.into_iter().find(|(words, _)| title.contains(words))
    {
        log.variable = variable;
    }
}

/// What a line of the heading states.
fn stated(log: &mut MatrixLog, text: &str) {
    let mark = text.trim_start_matches(['✓', '✗', '-', ' ']);
    if let Some([generator, verifier]) = fields::<2>(mark, "gpu_name: reference={}, verifier={}") {
        log.gpu = [verifier.to_owned(), generator.to_owned()];
        return;
    }
    let Some((name, value)) = mark.split_once(": ") else { return };
    let value = value.trim();
    match name {
        "GPU" | "GPUs" if log.gpu[0] == NOT_STATED => {
            let bare =
                value.split_once("x ").filter(|(count, _)| count.bytes().all(|byte| byte.is_ascii_digit()));
            bare.map_or(value, |(_, gpu)| gpu).clone_into(&mut log.gpu[0]);
        }
        "Model" if log.model.is_none() => log.model = Some(value.to_owned()),
        "vLLM" => drop(log.environment.insert("vllm_version".to_owned(), value.to_owned())),
        "PyTorch" | "torch_version" => {
            drop(log.environment.insert("torch_version".to_owned(), value.to_owned()));
        }
        "CUDA" | "cuda_version" => drop(log.environment.insert("cuda_version".to_owned(), value.to_owned())),
        "Attention" | "attn_implementation" => {
            drop(log.environment.insert("attn_implementation".to_owned(), value.to_owned()));
        }
        _ => {}
    }
}

fn output(lines: &Lines, line: usize, ids: &str, reference: &str, value: &str) -> Result<StatedTokens> {
    let ids = lines.counts(line, ids)?.into_iter().map(u32::try_from).collect::<std::result::Result<_, _>>();
    Ok(StatedTokens {
        reference: reference.to_owned(),
        value: value.to_owned(),
        ids: ids.map_err(|_| lines.wrong(line, "a token id beyond 32 bits"))?,
        text: String::new(),
        consumed_by: vec![Phase::Decode],
        place: format!("line {line}"),
    })
}

/// Labels of a heading such as `bs=  1 bs=  2`, `v_TP=  1 v_TP=  2`: two or more of one name.
fn heading(text: &str) -> Option<Vec<String>> {
    let joined = joined(text);
    let pairs: Option<Vec<(&str, &str)>> =
        joined.split_whitespace().map(|word| word.split_once('=')).collect();
    let pairs = pairs.filter(|pairs| pairs.len() > 1)?;
    let name = pairs[0].0;
    let named = pairs.iter().all(|(other, value)| *other == name && !value.is_empty());
    let known = matches!(name, "bs" | "v_bs" | "TP" | "v_TP" | "q" | "v_q" | "v_config" | "v");
    (named && known).then(|| pairs.into_iter().map(|(_, value)| value.to_owned()).collect())
}

/// Labels of a heading of bare names, as many lines of which follow, each with its name and a figure per name.
fn words(lines: &Lines) -> Option<Vec<String>> {
    let names: Vec<&str> = lines.peek()?.split_whitespace().collect();
    let figure = |word: &str| Printed::parse(word, 0).is_some();
    if names.len() < 2 || names.iter().any(|name| figure(name)) {
        return None;
    }
    let rows = lines.ahead(1, names.len());
    let fits = |(name, row): (&&str, &&str)| {
        let mut words = row.split_whitespace();
        words.next().is_some_and(|first| bare(first) == bare(name))
            && words.clone().count() == names.len()
            && words.all(figure)
    };
    let all = rows.len() == names.len() && names.iter().zip(&rows).all(fits);
    all.then(|| names.into_iter().map(|name| bare(name).to_owned()).collect())
}

/// A label without its `bs=`, `c_` or `v_`.
fn bare(label: &str) -> &str {
    let value = label.split_once('=').map_or(label, |(_, value)| value);
    ["c_", "v_", "r_"].into_iter().find_map(|prefix| value.strip_prefix(prefix)).unwrap_or(value)
}

/// The text with the white space after `=` taken out.
fn joined(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for part in text.split_inclusive('=') {
        joined.push_str(if joined.ends_with('=') { part.trim_start() } else { part });
    }
    joined
}

/// The matrix under a heading: a row for each label.
fn matrix(lines: &mut Lines, labels: &[String]) -> Result<PrintedMatrix> {
    let (line, _) = lines.take("a heading")?;
    let mut cells = Vec::new();
    for label in labels {
        let (number, text) = lines.take(&format!("the row of {label}"))?;
        let joined = joined(text);
        let mut words = joined.split_whitespace();
        let named = words.next().map(|word| bare(word).to_owned()).unwrap_or_default();
        lines.same(number, "the label of the row", &named, label)?;
        let figures: Vec<Printed> = words.map(|text| lines.figure(number, text)).collect::<Result<_>>()?;
        lines.same(number, "the number of cells", &figures.len(), &labels.len())?;
        cells.push(figures);
    }
    Ok(PrintedMatrix { rows: labels.to_vec(), columns: labels.to_vec(), cells, line })
}

/// Every group of matrices has its average, and all have the same labels.
fn whole(log: &MatrixLog, lines: &mut Lines) -> Result<()> {
    let Some(first) = log.matrices.first() else {
        lines.take("a matrix of distances")?;
        return Ok(());
    };
    for one in &log.matrices {
        lines.same(one.printed.line, "the labels of the matrix", &one.printed.rows, &first.printed.rows)?;
        let averaged = log.matrices.iter().any(|other| other.group == one.group && other.reference.is_none());
        if !averaged {
            lines.section(format!("the average of what stands in line {}", one.printed.line));
            lines.take("AGGREGATE (average across references):")?;
        }
    }
    Ok(())
}

impl MatrixLog {
    /// Groups of matrices in the order of the log.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let mut groups = Vec::new();
        for one in &self.matrices {
            if !groups.contains(&one.group) {
                groups.push(one.group);
            }
        }
        groups
    }

    /// Matrices of one group: of each reference, and the average.
    pub(crate) fn of(&self, group: Group) -> (Vec<&LogMatrix>, Option<&LogMatrix>) {
        let all = || self.matrices.iter().filter(move |one| one.group == group);
        (all().filter(|one| one.reference.is_some()).collect(), all().find(|one| one.reference.is_none()))
    }

    /// The distances in this project's terms: those within one machine, then those between two.
    pub(crate) fn distances(&self) -> Vec<Verification> {
        let Some(first) = self.matrices.first() else { return Vec::new() };
        let machine = |gpu: &String| Machine { gpu: gpu.clone(), environment: self.environment.clone() };
        let [own, other] = &self.gpu;
        let all = [false, true].map(|across| {
            let mut cells = BTreeMap::new();
            for group in self.groups().into_iter().filter(|group| group.across == across) {
                let (each, average) = self.of(group);
                let stored = if each.is_empty() { average.into_iter().collect() } else { each };
                for one in stored {
                    one.fill(&mut cells);
                }
            }
            Verification {
                variable: self.variable.to_owned(),
                values: first.printed.rows.clone(),
                generator: machine(if across { other } else { own }),
                verifier: machine(own),
                mismatches: Vec::new(),
                relation: if across { Relation::ClaimedVerified } else { Relation::WithinMode },
                cells,
            }
        });
        all.into_iter().filter(|one| !one.cells.is_empty()).collect()
    }
}

impl LogMatrix {
    fn fill(&self, cells: &mut BTreeMap<CellKey, mantissa_evidence::verification::CellDistance>) {
        let signal = match self.group.signal {
            Signal::Logprobs => "logprobs",
            _ => "key_vectors",
        };
        for (claimed, row) in self.printed.cells.iter().enumerate() {
            for (verified, figure) in row.iter().enumerate() {
                let key = CellKey {
                    phase: self.group.phase,
                    signal: signal.to_owned(),
                    reference: self.reference.clone(),
                    claimed,
                    verified,
                };
                cells.insert(key, figure.average());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_told_by_their_words() {
        let labels = |text: &str| heading(text).map(|labels| labels.join(","));
        assert_eq!(labels("bs=  1 bs= 16"), Some("1,16".to_owned()));
        assert_eq!(labels("v_TP=  1 v_TP=  2"), Some("1,2".to_owned()));
        assert_eq!(labels("bs=1: Prompt: 200 tokens"), None);
        assert_eq!(labels("gpu_name: reference=a, verifier=b"), None);
    }
}
