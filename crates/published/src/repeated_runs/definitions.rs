//! Repeated runs: whether tokens, log-probabilities and lists of candidates are the same in all of them.

use mantissa_evidence::lenient::Number;

use super::reader::File;
use crate::sheet::{Sheet, Signal};

/// The authors' four answers, from the runs.
pub(crate) fn sheet(file: &File) -> Sheet {
    let mut sheet = Sheet::of("none");
    sheet.signal(Signal::Logprobs);
    let tokens = all_equal(&file.token_sequences);
    let bits = |value: &Option<Number>| value.map(|Number(value)| value.to_bits());
    let vectors: Vec<Vec<_>> =
        file.logprobs_vectors.iter().map(|run| run.iter().map(bits).collect()).collect();
    let logprobs = all_equal(&vectors);
    let lists = file.top_k_distributions.as_ref().map(|runs| {
        let list = |list: &Vec<(u32, Option<Number>)>| -> Vec<_> {
            list.iter().map(|(id, value)| (*id, bits(value))).collect()
        };
        let runs: Vec<Vec<_>> = runs.iter().map(|run| run.iter().map(list).collect()).collect();
        all_equal(&runs)
    });
    let stated = file.results;
    let mut say = |name: &str, printed: Option<bool>, follows: bool, field: &str| {
        let at = format!("results.{field}");
        sheet.text(name, printed.map(|word| word.to_string()), follows.to_string(), &at, None);
    };
    say("tokens identical", stated.tokens_identical, tokens, "tokens_identical");
    if !vectors.is_empty() {
        say("log-probabilities exact", stated.logprobs_exact, logprobs, "logprobs_exact");
    }
    if let Some(lists) = lists {
        say("distributions exact", stated.distributions_exact, lists, "distributions_exact");
    }
    let perfect = tokens && logprobs && lists.unwrap_or(true);
    say("perfect reproducibility", stated.perfect_reproducibility, perfect, "perfect_reproducibility");
    let distinct = |all: &[Vec<Option<u64>>]| {
        let mut seen: Vec<&Vec<Option<u64>>> = Vec::new();
        for one in all {
            if !seen.contains(&one) {
                seen.push(one);
            }
        }
        seen.len()
    };
    if tokens && !logprobs && !vectors.is_empty() {
        sheet.finding(
            format!(
                "all {} runs have the same tokens, and {} of them other log-probabilities than every run before: \
                 equal text says nothing about equal arithmetic",
                vectors.len(),
                distinct(&vectors) - 1
            ),
            &["token_sequences", "logprobs_vectors"],
        );
    }
    if lists.is_none() && stated.distributions_exact.is_some() {
        sheet.finding(
            "distributions_exact is stated, and the distributions are not stored",
            &["results.distributions_exact"],
        );
    }
    sheet
}

fn all_equal<T: PartialEq>(runs: &[T]) -> bool {
    runs.windows(2).all(|two| two[0] == two[1])
}
