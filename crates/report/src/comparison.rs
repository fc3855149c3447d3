//! A [`Comparison`] for a terminal: facts prompt by prompt, then repetitions.

use mantissa_compare::{ComparedPair, ComparedPrompt, Comparison, State, Tokens};

use crate::compared::{self, Named};
use crate::grid::{Column, Grid, Kind, Row};
use crate::text::{Page, Style};
use crate::words;

/// The comparison for a terminal; with `full`, every pair of a prompt site by site, also where there are many.
///
/// ```
/// use mantissa_compare::{Comparison, Selection};
/// use mantissa_published::{Content, open};
/// use mantissa_report::{Style, comparison_text};
///
/// let file = open("../../fixtures/evidence/v1/container".as_ref())?;
/// let Content::Record(record) = file.content else { panic!("a record") };
/// let found = Comparison::of(&[(file.name, record)], &Selection::default())?;
/// let page = comparison_text(&found, false, Style::default());
/// assert!(page.contains("class 2") && page.contains("first difference"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn comparison_text(comparison: &Comparison, full: bool, style: Style) -> String {
    let mut page = Page::new(style);
    let of = Named::of(comparison);
    if comparison.prompts.is_empty() {
        page.hanging("", "No two runs are known to have consumed the same prompt: no two were compared.");
    }
    for (number, prompt) in comparison.prompts.iter().enumerate() {
        if number > 0 {
            page.blank();
        }
        of.page_of(prompt, full, &mut page);
    }
    if !comparison.alone.is_empty() {
        page.blank();
        let names = of.names(comparison.alone.iter().copied()).join(", ");
        page.field(
            "not compared",
            &format!("{names}: no other run is known to have consumed the same prompt"),
        );
    }
    of.repetitions(&mut page);
    page.finish()
}

impl Named<'_> {
    fn page_of(&self, prompt: &ComparedPrompt, full: bool, page: &mut Page) {
        page.title(&words::capital(&self.prompt(prompt)));
        let several = prompt.runs.len() > 2;
        if several {
            self.lines_of_classes(prompt, page);
            self.outputs(prompt).iter().for_each(|(label, value)| page.field(label, value));
        }
        if several && !full {
            return self.beside_the_first(prompt, page);
        }
        for pair in &prompt.pairs {
            if several {
                page.blank();
            }
            self.pair(pair, page);
        }
    }

    /// Classes of equal bits, a line each.
    fn lines_of_classes(&self, prompt: &ComparedPrompt, page: &mut Page) {
        for (number, class) in prompt.classes.classes.iter().enumerate() {
            page.field(&format!("class {}", number + 1), &self.names(class.iter().copied()).join(", "));
        }
        self.unplaced(prompt).iter().for_each(|one| page.field("in no class", one));
        self.conflicts(prompt).iter().for_each(|one| page.field("conflict", one));
    }

    /// A line for each pair beside the first.
    fn beside_the_first(&self, prompt: &ComparedPrompt, page: &mut Page) {
        let rows = compared::beside_the_first(prompt).into_iter().map(|(run, class, pair)| {
            let name = class.map_or_else(|| self.name(run), |number| format!("class {number}"));
            let counts = pair.facts.counts(None);
            let cells = vec![name, compared::first(&pair.facts)];
            Row::new([cells, compared::by_state(counts).to_vec()].concat(), [])
        });
        let rows: Vec<Row<'_>> = rows.collect();
        if rows.is_empty() {
            return;
        }
        let words = ["beside the first", "first difference"].map(|title| Column::new(title, Kind::Words));
        let numbers = compared::BY_STATE.map(|title| Column::new(title, Kind::Number));
        page.blank();
        page.rows(&Grid {
            caption: String::new(),
            columns: words.into_iter().chain(numbers).collect(),
            rows,
            note: None,
        });
    }

    fn pair(&self, pair: &ComparedPair, page: &mut Page) {
        let facts = &pair.facts;
        page.field("runs", &words::pair_name(&self.name(pair.a), &self.name(pair.b)));
        let stated = [pair.a, pair.b].iter().all(|&run| self.comparison.runs[run].outputs);
        let unsaid = if stated { "" } else { "; not both state their outputs" };
        page.field("tokens", &format!("{}{unsaid}", tokens(facts.tokens)));
        page.field("first", &compared::first(facts));
        page.field("rows", &compared::rows(facts.counts(None)));
        page.rows(&compared::site_table(String::new(), facts));
    }

    /// Whether repetitions of each setup agree: those that do in a line, the others in one each.
    fn repetitions(&self, page: &mut Page) {
        let repetitions = &self.comparison.repetitions;
        if repetitions.is_empty() {
            return;
        }
        page.heading("Repetitions of a setup");
        let stated = |outputs| if outputs == State::Missing { ", outputs not stated" } else { "" };
        let (agree, others): (Vec<_>, Vec<_>) = repetitions
            .iter()
            .partition(|one| one.found.signals == State::Equal && one.found.outputs != State::Different);
        let agree: Vec<String> = agree
            .into_iter()
            .map(|one| format!("{}{}", self.repeated(one), stated(one.found.outputs)))
            .collect();
        if !agree.is_empty() {
            page.field("agree", &agree.join("; "));
        }
        for one in others {
            let label = if compared::repetitions_differ(&one.found) { "differ" } else { "open" };
            let (outputs, signals) =
                (compared::outputs_agree(&one.found), compared::agree(one.found.signals));
            page.field(label, &format!("{}: outputs {outputs}; signals {signals}", self.repeated(one)));
        }
    }
}

fn tokens(tokens: Tokens) -> String {
    match tokens {
        Tokens::Unknown => "unknown".to_owned(),
        Tokens::Equal => "the same".to_owned(),
        Tokens::PromptsPart { index } => format!("prompts part at {index}; nothing is compared"),
        Tokens::OutputsPart { index } => format!("outputs part at {index}; nothing after that is compared"),
        Tokens::Declared { outputs_part: None } => "declared to be the same, not proved".to_owned(),
        Tokens::Declared { outputs_part: Some(index) } => {
            format!("prompts declared to be the same; outputs part at {index}")
        }
    }
}
