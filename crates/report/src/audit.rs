//! An [`Audit`] for people and programs: text, Markdown, JSON.
//!
//! Sentences first, then tables laid out once for text and Markdown.

use std::io::{self, Write};

use mantissa_numerics::schema::without_examples;
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::{Matrix, Outcome, Tier};
use mantissa_verdict::audit::{
    AuditedModel, ClaimAnswer, ClaimVerdict, Difference, ReplayState, ReplayVerdict, SignalDistance,
};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use crate::foreign::{markdown as escape, push};
use crate::grid::{self, Column, Grid, Kind, Row};
use crate::short::Short;
use crate::text::{Page, Style};
use crate::words;

/// The file that has all of it, and the flag that writes it.
pub(crate) const WHOLE: &str = "verification.json (--output)";

/// The audit for a terminal.
///
/// ```
/// # use mantissa_verdict::Audit;
/// # use mantissa_verdict::audit::{AUDIT_VERSION, Cost};
/// # let audit = Audit {
/// #     audit_version: AUDIT_VERSION,
/// #     sources: vec![],
/// #     model: None,
/// #     replay: "none".into(),
/// #     outcome: Audit::outcome_of(&[]),
/// #     candidates: vec![],
/// #     claims: vec![],
/// #     matrices: vec![],
/// #     cost: Cost::default(),
/// #     consistency: vec![],
/// #     contested: vec![],
/// #     spot_checks: vec![],
/// #     self_test: vec![],
/// #     notes: vec!["nothing was replayed".into()],
/// #     thresholds: vec![],
/// #     catalogs: vec![],
/// # };
/// // `audit` is what `mantissa_verdict::audit` and its caller found.
/// let page = mantissa_report::audit_text(&audit, mantissa_report::Style::default());
/// assert!(page.contains("nothing was replayed"));
/// ```
#[must_use]
pub fn audit_text(audit: &Audit, style: Style) -> String {
    let mut page = Page::new(style);
    page.claim(audit.outcome, meaning(audit));
    for (label, value) in about(audit) {
        page.field(label, &value);
    }
    for claim in &audit.claims {
        page.heading(&headline(claim));
        page.hanging("  ", &claim.sentence);
        for (label, value) in facts(claim) {
            page.field(label, &value);
        }
    }
    if !audit.consistency.is_empty() {
        page.heading("What the evidence says of itself, without a replay");
        for finding in &audit.consistency {
            page.hanging("  - ", &format!("{}: {}", words::finding(finding.kind), finding.sentence));
        }
    }
    if style.tables {
        for grid in tables(audit) {
            page.grid(&grid);
        }
        page.matrix_grids(&shortened(audit));
        if let Some(line) = single_prompts(audit) {
            page.hanging("  ", &line);
        }
    }
    if audit.cost.candidates > 0 {
        page.field_list("Cost", &cost(audit));
    }
    if !audit.notes.is_empty() {
        page.heading("Notes");
        for note in &audit.notes {
            page.hanging("  - ", note);
        }
    }
    page.source_list(&audit.sources);
    page.finish()
}

/// Writes the audit as Markdown.
///
/// ```
/// # use mantissa_verdict::Audit;
/// # use mantissa_verdict::audit::{AUDIT_VERSION, Cost};
/// # let audit = Audit {
/// #     audit_version: AUDIT_VERSION,
/// #     sources: vec![],
/// #     model: None,
/// #     replay: "none".into(),
/// #     outcome: Audit::outcome_of(&[]),
/// #     candidates: vec![],
/// #     claims: vec![],
/// #     matrices: vec![],
/// #     cost: Cost::default(),
/// #     consistency: vec![],
/// #     contested: vec![],
/// #     spot_checks: vec![],
/// #     self_test: vec![],
/// #     notes: vec!["nothing was replayed".into()],
/// #     thresholds: vec![],
/// #     catalogs: vec![],
/// # };
/// let mut page = Vec::new();
/// mantissa_report::audit_markdown(&audit, &mut page)?;
/// assert!(String::from_utf8_lossy(&page).contains("## Notes\n\n- nothing was replayed\n"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn audit_markdown(audit: &Audit, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# {}: {}\n", words::claim_outcome(audit.outcome), meaning(audit))?;
    for (label, value) in about(audit) {
        writeln!(out, "- {label}: {}", escape(&value))?;
    }
    for claim in &audit.claims {
        writeln!(out, "\n## {}\n\n**{}**\n", escape(&headline(claim)), escape(&claim.sentence))?;
        for (label, value) in facts(claim) {
            writeln!(out, "- {label}: {}", escape(&value))?;
        }
    }
    if !audit.consistency.is_empty() {
        writeln!(out, "\n## What the evidence says of itself, without a replay\n")?;
        for finding in &audit.consistency {
            writeln!(out, "- **{}**: {}", words::finding(finding.kind), escape(&finding.sentence))?;
        }
    }
    let tables = tables(audit);
    crate::markdown::section(out, "Tables", &tables)?;
    let shortened = shortened(audit);
    let matrices: Vec<Grid<'_>> = shortened.iter().map(|matrix| grid::matrix(matrix, 4)).collect();
    if !matrices.is_empty() {
        writeln!(out, "\n## Matrices\n\n{}", words::LEGEND)?;
        matrices.iter().try_for_each(|matrix| crate::markdown::table(out, matrix))?;
        single_prompts(audit).map_or(Ok(()), |line| writeln!(out, "\n{line}"))?;
    }
    writeln!(out, "\n## Cost\n")?;
    for (label, value) in cost(audit) {
        writeln!(out, "- {label}: {}", escape(&value))?;
    }
    if !audit.notes.is_empty() {
        writeln!(out, "\n## Notes\n")?;
        audit.notes.iter().try_for_each(|note| writeln!(out, "- {}", escape(note)))?;
    }
    writeln!(out, "\n## Sources\n")?;
    for source in &audit.sources {
        writeln!(out, "- {} ({}), blake3 {}", escape(&source.name), source.layout, source.digest)?;
        source.warnings.iter().try_for_each(|warning| writeln!(out, "  - {}", escape(warning)))?;
    }
    Ok(())
}

/// Writes `verification.json`: the audit as it is.
///
/// ```
/// # use mantissa_verdict::Audit;
/// # use mantissa_verdict::audit::{AUDIT_VERSION, Cost};
/// # let audit = Audit {
/// #     audit_version: AUDIT_VERSION,
/// #     sources: vec![],
/// #     model: None,
/// #     replay: "none".into(),
/// #     outcome: Audit::outcome_of(&[]),
/// #     candidates: vec![],
/// #     claims: vec![],
/// #     matrices: vec![],
/// #     cost: Cost::default(),
/// #     consistency: vec![],
/// #     contested: vec![],
/// #     spot_checks: vec![],
/// #     self_test: vec![],
/// #     notes: vec!["nothing was replayed".into()],
/// #     thresholds: vec![],
/// #     catalogs: vec![],
/// # };
/// let mut file = Vec::new();
/// mantissa_report::audit_json(&audit, &mut file)?;
/// let read: serde_json::Value = serde_json::from_slice(&file)?;
/// assert_eq!((&read["outcome"], &read["notes"][0]), (&"not_enough_evidence".into(), &"nothing was replayed".into()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn audit_json(audit: &Audit, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, audit).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

/// Its JSON Schema (draft 2020-12).
///
/// ```
/// let file = std::fs::read("../../docs/format/verification.schema.json")?;
/// assert_eq!(mantissa_report::audit_schema(), serde_json::from_slice::<serde_json::Value>(&file)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn audit_schema() -> Value {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .with_transform(RecursiveTransform(without_examples))
        .into_generator()
        .into_root_schema_for::<Audit>()
        .to_value()
}

/// What was verified with what.
pub(crate) fn about(audit: &Audit) -> Vec<(&'static str, String)> {
    let mut about = vec![("model", model(audit)), ("replay", replay(audit).to_owned())];
    if !audit.sources.is_empty() {
        about.insert(0, ("evidence", names(audit)));
    }
    about.extend(audit.catalogs.iter().map(|used| ("recipes", used.to_string())));
    about
}

pub(crate) fn meaning(audit: &Audit) -> &'static str {
    match audit.outcome {
        // A self-test without evidence.
        Outcome::Consistent if audit.sources.is_empty() => {
            "Every planted deviation was caught, and honest evidence passed."
        }
        _ if audit.sources.is_empty() => "A planted deviation was not judged as it should be.",
        Outcome::Consistent => "The evidence is what each claimed setup leaves.",
        Outcome::Divergent => "The evidence is not what a claimed setup leaves.",
        Outcome::NotEnoughEvidence if contradicts_itself(audit) => {
            "The evidence contradicts itself: no verdict until it is settled what is meant."
        }
        Outcome::NotEnoughEvidence => "No claim is contradicted, and not every one could be checked.",
    }
}

pub(crate) fn contradicts_itself(audit: &Audit) -> bool {
    audit.claims.iter().any(|claim| claim.answer == ClaimAnswer::ContradictsItself)
}

pub(crate) fn names(audit: &Audit) -> String {
    audit.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn model(audit: &Audit) -> String {
    let Some(model) = &audit.model else { return "none given, so nothing was replayed".to_owned() };
    let digest = model.weights_digest.as_deref().map(|digest| &digest[..digest.len().min(16)]);
    let weights = weights(audit, model, digest);
    match model.claimed.as_slice() {
        [] => weights,
        names => format!("{weights}; claimed to be {}", names.join(" or ")),
    }
}

fn weights(audit: &Audit, model: &AuditedModel, digest: Option<&str>) -> String {
    match (digest, model.stated_by_evidence) {
        (Some(digest), true) => format!("{}, weights {digest}…, as the evidence states", model.name),
        (Some(digest), false) => {
            format!("{}, weights {digest}…; the evidence states no weights to hold them against", model.name)
        }
        (None, _) if audit.sources.is_empty() => model.name.clone(),
        (None, _) => format!("{}; the evidence states no weights to hold it against", model.name),
    }
}

pub(crate) fn replay(audit: &Audit) -> &'static str {
    match audit.replay.as_str() {
        "decode" => "by decode: the prompt in one pass, then one forced token per pass, as generated",
        "prefill" => "by prefill: prompt and output in one pass",
        "spot_check" => "single values, each from its recorded inputs",
        _ => "none",
    }
}

pub(crate) fn headline(claim: &ClaimVerdict) -> String {
    match &claim.claim {
        Some(candidate) if *candidate != claim.config_id => {
            format!("{} claims {candidate}", claim.config_id)
        }
        Some(_) => claim.config_id.clone(),
        None => format!("{}: not a setup that can be replayed", claim.config_id),
    }
}

pub(crate) const fn answer(answer: ClaimAnswer) -> &'static str {
    match answer {
        ClaimAnswer::Consistent => "consistent",
        ClaimAnswer::Contradicted => "contradicted",
        ClaimAnswer::FitsNone => "fits none",
        ClaimAnswer::NotEnoughEvidence => "not enough",
        ClaimAnswer::ContradictsItself => "contradicts itself",
    }
}

pub(crate) fn facts(claim: &ClaimVerdict) -> Vec<(&'static str, String)> {
    let basis = &claim.rests_on;
    let mut facts = Vec::new();
    if basis.runs > 0 {
        let [values, recorded] = [basis.values, basis.recorded].map(words::count);
        let mut said = format!("{values} of {recorded} recorded values");
        if basis.rows > 0 {
            push(&mut said, format_args!(" in {}", whole(basis.rows, "row")));
        }
        push(&mut said, format_args!(" of {}", whole(basis.runs, "run")));
        if basis.tokens_fed > 0 {
            let [fed, held] = [basis.tokens_fed, basis.tokens_checked].map(words::count);
            push(&mut said, format_args!("; {fed} tokens fed, {held} held against the largest logit"));
        }
        facts.push(("rests on", said));
    }
    if claim.tier != Tier::None {
        facts.push(("reasoning", words::tier(claim.tier).to_owned()));
    }
    facts.extend(claim.cannot_tell_apart.iter().map(|line| ("one class", line.clone())));
    facts.extend(claim.not_checked.iter().map(|line| ("not checked", line.clone())));
    facts
}

pub(crate) fn tables(audit: &Audit) -> Vec<Grid<'_>> {
    let short = short(audit);
    let mut grids = Vec::new();
    if audit.claims.len() > 1 && audit.candidates.len() > 1 {
        grids.extend(overview(audit, &short));
    }
    for claim in audit.claims.iter().filter(|claim| !claim.replays.is_empty()) {
        let grid = Grid {
            caption: format!("Replays beside {}{}", claim.config_id, short.said("candidates")),
            columns: vec![
                Column::new("class", Kind::Words),
                Column::new("bits", Kind::Words),
                Column::new("first difference", Kind::Prose),
                Column::new("values", Kind::Number),
                Column::new("differ", Kind::Number),
                Column::new("passes", Kind::Number),
                Column::new("mean L2", Kind::Prose),
                Column::new("p, Holm", Kind::Number),
            ],
            rows: claim.replays.iter().map(|replay| row(replay, &short)).collect(),
            note: None,
        };
        grids.push(grid.lean());
    }
    for spot in &audit.spot_checks {
        let missed = spot.missed.iter().map(|m| {
            let cells =
                vec![format!("{} of the values", words::percent(m.extent)), words::number(m.probability, 3)];
            Row::new(cells, [])
        });
        let kernels: Vec<String> =
            spot.kernels.iter().map(|(kernel, n)| format!("{kernel} {}", words::count(*n))).collect();
        grids.push(Grid {
            caption: format!("Spot check of {}", spot.config_id),
            columns: vec![
                Column::new("a deviation in", Kind::Words),
                Column::new("is missed with probability", Kind::Number),
            ],
            rows: missed.collect(),
            note: Some(format!(
                "{} values drawn uniformly, with replacement, from {} of the {} that are recorded (seed {}); {} \
                 differ. Draws by site: {}.",
                words::count(spot.drawn),
                words::count(spot.population),
                words::count(spot.recorded),
                spot.seed,
                words::count(spot.different),
                kernels.join(", "),
            )),
        });
    }
    if !audit.self_test.is_empty() {
        let rows = audit.self_test.iter().map(|planted| {
            let wanted = if planted.dishonest { "caught" } else { "passes" };
            let right = match (planted.passed, planted.changed || !planted.dishonest) {
                (true, _) => wanted.to_owned(),
                (false, true) => format!("NOT {wanted}"),
                (false, false) => "left no trace".to_owned(),
            };
            let cells = vec![
                planted.deviation.clone(),
                answer(planted.answer).to_owned(),
                right,
                planted.found.clone(),
            ];
            Row::new(cells, [])
        });
        grids.push(Grid {
            caption: "Self-test: known deviations, planted".to_owned(),
            columns: vec![
                Column::new("planted", Kind::Prose),
                Column::new("answer", Kind::Words),
                Column::new("", Kind::Words),
                Column::new("found", Kind::Prose),
            ],
            rows: rows.collect(),
            note: None,
        });
    }
    grids
}

fn row<'a>(replay: &'a ReplayVerdict, short: &Short) -> Row<'a> {
    let mark = if replay.claimed { "claim: " } else { "" };
    let apart = replay.distances.iter().filter(|distance| distance.different > 0);
    let distances: Vec<String> = apart.map(distance).collect();
    let class: Vec<&str> = replay.class.iter().map(|name| short.name(name)).collect();
    let cells = vec![
        format!("{mark}{}", class.join(", ")),
        state(replay.state).to_owned(),
        replay.first.as_ref().map_or_else(String::new, place),
        words::count(replay.values),
        words::count(replay.different),
        format!("{} of {}", words::count(replay.passes[0]), words::count(replay.passes[1])),
        distances.join(", "),
        words::some(replay.p_adjusted),
    ];
    Row::new(cells, [])
}

/// Names of candidates, shortened.
pub(crate) fn short(audit: &Audit) -> Short {
    Short::of(&audit.candidates.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Matrices under short names. One setup beside itself alone is no matrix: its verdict says it all.
fn shortened(audit: &Audit) -> Vec<Matrix> {
    let short = short(audit);
    let mut matrices = audit.matrices.clone();
    matrices.retain(|matrix| matrix.reference.is_none());
    matrices.retain(|matrix| matrix.rows.len() > 1 || matrix.columns.len() > 1);
    for matrix in &mut matrices {
        matrix.title.push_str(&short.said("candidates"));
        for name in matrix.columns.iter_mut().chain(&mut matrix.rows) {
            *name = short.name(name).to_owned();
        }
    }
    matrices
}

/// Where matrices of single prompts are: beside that of all they say little that a line of text could.
fn single_prompts(audit: &Audit) -> Option<String> {
    let single = audit.matrices.iter().filter(|matrix| matrix.reference.is_some()).count();
    (single > 0)
        .then(|| format!("{} matrices of single prompts are in {WHOLE}.", words::count(single as u64)))
}

/// Claimed × verified: whether every compared bit is equal. Where one grid has no room for all candidates, those that
/// no claim fits are counted, not shown.
fn overview<'a>(audit: &'a Audit, short: &Short) -> Vec<Grid<'a>> {
    /// Characters of a line.
    const ROOM: usize = 96;
    let cell = |claim: &ClaimVerdict, candidate: &String| {
        let found = claim.replays.iter().find(|replay| replay.class.contains(candidate));
        found.map_or("×", |replay| match replay.state {
            ReplayState::Equal => "=",
            ReplayState::Different => "≠",
            ReplayState::WithinNoise => "≈",
            ReplayState::TooFewRepetitions | ReplayState::NotCompared => "?",
        })
    };
    let name =
        |claim: &'a ClaimVerdict| short.name(claim.claim.as_ref().unwrap_or(&claim.config_id)).to_owned();
    let label = audit.claims.iter().map(|claim| name(claim).chars().count()).max().unwrap_or(0) + 2;
    let width = |candidate: &String| short.name(candidate).chars().count() + 2;
    let all = |candidate: &String, marks: &[&str]| {
        audit.claims.iter().all(|claim| marks.contains(&cell(claim, candidate)))
    };
    let mut shown: Vec<&String> = audit.candidates.iter().collect();
    let mut note = "= every compared bit is equal · ≠ contradicted · ≈ within the evidence's own noise · ? too little to say · × not checked, or not asked for".to_owned();
    if label + shown.iter().map(|candidate| width(candidate)).sum::<usize>() > ROOM {
        let unchecked = shown.iter().filter(|candidate| all(candidate, &["×"])).count();
        let unfit = shown.iter().filter(|candidate| all(candidate, &["≠", "×"])).count();
        if unfit < shown.len() {
            shown.retain(|candidate| !all(candidate, &["≠", "×"]));
            let left_out =
                [(unfit - unchecked, "without a claim whose evidence fits"), (unchecked, "not checked")];
            let left_out = left_out.into_iter().filter(|(count, _)| *count > 0);
            note.extend(
                left_out
                    .map(|(count, what)| format!(" · not shown: {} {what}", words::of(count, "candidate"))),
            );
        }
    }
    // As many columns side by side as fit.
    let mut blocks: Vec<Vec<&String>> = Vec::new();
    let mut used = usize::MAX;
    for candidate in shown {
        let width = width(candidate);
        if used.saturating_add(width) > ROOM {
            blocks.push(Vec::new());
            used = label;
        }
        used += width;
        if let Some(block) = blocks.last_mut() {
            block.push(candidate);
        }
    }
    let last = blocks.len().saturating_sub(1);
    let grids = blocks.into_iter().enumerate().map(|(i, block)| {
        let columns = block.iter().map(|candidate| Column::new(short.name(candidate), Kind::Number));
        let rows = audit.claims.iter().map(|claim| {
            let cells = block.iter().map(|candidate| cell(claim, candidate).to_owned());
            Row::new(std::iter::once(name(claim)).chain(cells).collect(), [])
        });
        Grid {
            caption: format!("Claimed × verified{}", short.said("candidates")),
            columns: std::iter::once(Column::new("", Kind::Words)).chain(columns).collect(),
            rows: rows.collect(),
            note: (i == last).then(|| note.clone()),
        }
    });
    grids.collect()
}

fn distance(distance: &SignalDistance) -> String {
    let value = distance.mean_l2.map_or_else(|| "unknown".to_owned(), |value| words::number(value, 3));
    format!("{} {} {value}", distance.phase.name(), words::signal(distance.signal))
}

pub(crate) const fn state(state: ReplayState) -> &'static str {
    match state {
        ReplayState::Equal => "equal",
        ReplayState::Different => "different",
        ReplayState::WithinNoise => "within noise",
        ReplayState::TooFewRepetitions => "too few repetitions",
        ReplayState::NotCompared => "not compared",
    }
}

pub(crate) fn place(d: &Difference) -> String {
    let position = d.position.map_or_else(String::new, |position| format!(" position {position}"));
    let element = d.element.map_or_else(String::new, |element| format!("[{element}]"));
    format!("{} step {}{position} {}{element}", d.phase.name(), d.step, d.site)
}

fn whole(number: u64, noun: &str) -> String {
    words::of(usize::try_from(number).unwrap_or(usize::MAX), noun)
}

pub(crate) fn cost(audit: &Audit) -> Vec<(&'static str, String)> {
    let cost = &audit.cost;
    let saved = cost.passes_alone.saturating_sub(cost.passes_planned);
    vec![
        (
            "classes",
            format!(
                "{} of {} candidates, by recipe, before anything was computed",
                words::count(cost.classes),
                words::count(cost.candidates)
            ),
        ),
        (
            "passes",
            format!(
                "{} instead of {}: {} saved by classes and shared beginnings",
                words::count(cost.passes_planned),
                words::count(cost.passes_alone),
                words::count(saved)
            ),
        ),
        (
            "rows",
            format!(
                "{} instead of {}: of each batch only the row that is evidence is computed",
                words::count(cost.rows_planned),
                words::count(cost.rows_alone)
            ),
        ),
        ("ended early", format!("{}, at their first contradiction", whole(cost.stopped_early, "replay"))),
    ]
}
