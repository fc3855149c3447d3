//! A [`Drift`] in a few lines of Markdown, for the summary of a pull request: no links, ten sites at most.

use std::io::{self, Write};

use mantissa_numerics::{LayerIdx, Point};
use mantissa_verdict::drift::{AgainstSite, BaselineChange, Drift, DriftAnswer, DriftSite};

use super::said::{self, beside, counted, is_news, meaning, placed, size};
use crate::foreign::markdown as escape;
use crate::grid::{Column, Grid, Kind, Row};
use crate::markdown::table;

/// Sites that are listed.
const SITES: usize = 10;

/// Writes the drift in a few lines of Markdown: the answer, how many pairs, where first, and what fails, ten sites at
/// most. With a baseline only what it does not cover is listed.
///
/// ```
/// # use mantissa_verdict::drift::{Drift, DriftCounts, DriftSide};
/// # let side = || DriftSide { name: "a".into(), setup: "cpu_bs1".into(), digest: None, reproduced: None };
/// let drift = Drift::of([side(), side()], Vec::new(), DriftCounts::default());
/// let mut summary = Vec::new();
/// mantissa_report::drift_summary(&drift, &mut summary)?;
/// assert!(summary.starts_with(b"## Drift: cannot be localized\n\nNothing could be compared.\n"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn drift_summary(drift: &Drift, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "## Drift: {}\n\n{}", drift.answer.words(), escape(&meaning(drift)))?;
    if let Some(against) = &drift.baseline {
        writeln!(out, "{}", escape(&beside(against)))?;
    }
    if drift.counts.pairs == 0 {
        return Ok(());
    }
    let (titles, numbers): (Vec<&str>, Vec<String>) =
        counted(drift).into_iter().map(|(word, number)| (word, number.to_string())).unzip();
    writeln!(out, "\n| pairs | {} |\n|{}", titles.join(" | "), " ---: |".repeat(titles.len() + 1))?;
    writeln!(out, "| {} | {} |", drift.counts.pairs, numbers.join(" | "))?;
    let grid = failing(drift);
    if !grid.rows.is_empty() {
        table(out, &grid)?;
    }
    let first = drift.first.as_ref().map(|place| ("First difference", place));
    let unexplained = said::first_unexplained(drift).map(|place| ("First unexplained", place));
    for (what, place) in first.into_iter().chain(unexplained) {
        writeln!(out, "\n{what}: {}.", escape(&placed(drift, place)))?;
    }
    Ok(())
}

/// A site that is listed.
struct Listed<'d> {
    layer: Option<LayerIdx>,
    point: Point,
    /// Beside a baseline.
    change: Option<BaselineChange>,
    /// Absent where no row of it was compared.
    site: Option<&'d DriftSite>,
}

/// What fails, unexplained sites first; with a baseline, what is new.
fn listed(drift: &Drift) -> Vec<Listed<'_>> {
    let mut all: Vec<Listed<'_>> = if let Some(against) = &drift.baseline {
        let news = against.sites.iter().filter(|found| is_news(found.change));
        let listed = news.map(|found| {
            let AgainstSite { layer, point, change, .. } = *found;
            let mut sites = drift.sites.iter();
            let site = sites.find(|site| (site.layer, site.point) == (layer, point));
            Listed { layer, point, change: Some(change), site }
        });
        listed.collect()
    } else {
        let fails = [DriftAnswer::Unexplained, DriftAnswer::NotLocalized];
        let failing = drift.sites.iter().filter(|site| fails.contains(&site.answer));
        let listed = failing.map(|site| {
            let DriftSite { layer, point, .. } = *site;
            Listed { layer, point, change: None, site: Some(site) }
        });
        listed.collect()
    };
    all.sort_by_key(|listed| std::cmp::Reverse(listed.site.map(|site| site.answer)));
    all
}

fn failing(drift: &Drift) -> Grid<'static> {
    let sites = listed(drift);
    let hypothesis = |listed: &Listed<'_>| {
        let mut found = drift.hypotheses.iter();
        let found = found.find(|found| (found.layer, found.point) == (listed.layer, listed.point));
        found.map_or_else(String::new, |found| found.detail.clone())
    };
    let rows = sites.iter().take(SITES).map(|listed| {
        let text = |said: &dyn Fn(&DriftSite) -> String| listed.site.map_or_else(String::new, said);
        Row::new(
            vec![
                said::site(listed.layer, listed.point),
                listed.change.map_or_else(String::new, |change| change.words().to_owned()),
                listed.site.map_or("not compared", |site| site.answer.words()).to_owned(),
                text(&|site| format!("{} of {}", site.counts.pairs - site.counts.equal, site.counts.pairs)),
                text(&|site| size(site.deviation)),
                text(&|site| size(site.spread)),
                hypothesis(listed),
            ],
            [],
        )
    });
    let cut = sites.len().saturating_sub(SITES);
    Grid {
        caption: if drift.baseline.is_some() { "What is new" } else { "What is not explained" }.to_owned(),
        columns: vec![
            Column::new("site", Kind::Words),
            Column::new("beside the baseline", Kind::Words),
            Column::new("answer", Kind::Words),
            Column::new("rows that differ", Kind::Words),
            Column::new("arose here", Kind::Number),
            Column::new("spread", Kind::Number),
            Column::new("vanishes or is rounding with", Kind::Prose),
        ],
        rows: rows.collect(),
        note: (cut > 0).then(|| format!("{cut} sites more are in drift.json (--output).")),
    }
    .lean()
}
