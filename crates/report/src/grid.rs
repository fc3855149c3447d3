//! Tables of an analysis, laid out once for text, Markdown and HTML.

use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{
    Citation, ClassSet, Comparison, Matrix, MatrixKind, PairVerdict, Profile, Threshold, Tier, TokenBasis,
};

use crate::words;

/// A table: a caption, columns, and rows that know where their numbers came from.
pub(crate) struct Grid<'a> {
    pub(crate) caption: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row<'a>>,
    /// What to know before using it.
    pub(crate) note: Option<String>,
}

impl Grid<'_> {
    /// Without the columns in which nothing stands.
    pub(crate) fn lean(self) -> Self {
        let said =
            |i: usize| self.rows.iter().any(|row| row.cells.get(i).is_some_and(|cell| !cell.is_empty()));
        let kept: Vec<bool> = (0..self.columns.len()).map(said).collect();
        self.only(&kept)
    }

    /// Without the column of this title.
    pub(crate) fn without(self, title: &str) -> Self {
        let kept: Vec<bool> = self.columns.iter().map(|column| column.title != title).collect();
        self.only(&kept)
    }

    fn only(mut self, kept: &[bool]) -> Self {
        let keep = |i: usize| kept.get(i).copied().unwrap_or(true);
        let mut i = 0..;
        self.columns.retain(|_| i.next().is_none_or(keep));
        for row in &mut self.rows {
            let mut i = 0..;
            row.cells.retain(|_| i.next().is_none_or(keep));
        }
        self
    }
}

/// How a column is set.
#[derive(Clone)]
pub(crate) struct Column {
    pub(crate) title: String,
    pub(crate) kind: Kind,
    /// Left out where a line has a hundred characters.
    pub(crate) wide: bool,
}

impl Column {
    pub(crate) fn new(title: &str, kind: Kind) -> Self {
        Self { title: title.to_owned(), kind, wide: false }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Words,
    /// A number that leads to where it came from.
    Number,
    /// Sentences: as broad as there is room.
    Prose,
}

pub(crate) struct Row<'a> {
    pub(crate) cells: Vec<String>,
    pub(crate) citations: Vec<&'a Citation>,
    /// Where each cell came from, where that differs from cell to cell.
    pub(crate) own: Vec<Option<&'a Citation>>,
}

impl<'a> Row<'a> {
    pub(crate) fn new(cells: Vec<String>, citations: impl IntoIterator<Item = &'a Citation>) -> Self {
        Self { cells, citations: citations.into_iter().collect(), own: Vec::new() }
    }

    /// Where a cell came from.
    pub(crate) fn source_of(&self, cell: usize) -> Option<&'a Citation> {
        if self.own.is_empty() {
            self.citations.first().copied()
        } else {
            self.own.get(cell).copied().flatten()
        }
    }
}

fn words(title: &str) -> Column {
    Column::new(title, Kind::Words)
}

fn number(title: &str) -> Column {
    Column::new(title, Kind::Number)
}

fn prose(title: &str) -> Column {
    Column::new(title, Kind::Prose)
}

fn wide(column: Column) -> Column {
    Column { wide: true, ..column }
}

/// Pairs, one table per question that they answer.
pub(crate) fn pairs(analysis: &Analysis) -> Vec<Grid<'_>> {
    [
        Comparison::CrossHardwareBaseline,
        Comparison::WithinHardware,
        Comparison::DecodeByPrefill,
        Comparison::CrossHardware,
    ]
    .into_iter()
    .filter_map(|comparison| {
        let rows: Vec<Row<'_>> =
            analysis.pairs.iter().filter(|pair| pair.comparison == comparison).map(pair).collect();
        let columns = vec![
            words("first"),
            words("second"),
            words("phase"),
            words("signal"),
            words("answer"),
            number("distance"),
            number("floor"),
            number("ratio"),
            wide(number("interval of the ratio")),
            wide(number("p")),
            number("p, Holm"),
            number("n"),
            number("rows"),
            wide(number("left out")),
            wide(prose("in a sentence")),
            wide(words("reasoning")),
            wide(prose("floor of")),
        ];
        (!rows.is_empty()).then(|| {
            Grid { caption: words::comparison(comparison).to_owned(), columns, rows, note: None }.lean()
        })
    })
    .collect()
}

fn pair(pair: &PairVerdict) -> Row<'_> {
    let floor = pair.floor.as_ref();
    let cells = vec![
        pair.a.clone(),
        pair.b.clone(),
        pair.phase.name().to_owned(),
        words::signal(pair.signal).to_owned(),
        words::answer(pair.answer).to_owned(),
        words::some(pair.distance),
        words::some(floor.map(|floor| floor.mean)),
        words::some(pair.ratio),
        words::interval(pair.interval.as_ref()),
        words::some(pair.p_value),
        words::some(pair.p_adjusted),
        // Of averages over references the file does not say how many; 0 would read as none.
        if pair.n == 0 && pair.tier == Tier::Aggregate {
            "averages".to_owned()
        } else {
            words::count(pair.n)
        },
        words::rows(pair.rows),
        words::count(pair.incomparable),
        pair.sentence.clone(),
        words::tier(pair.tier).to_owned(),
        floor.map_or_else(String::new, |floor| {
            format!("{} {}, at most {}", words::count(floor.n), floor.of, words::number(floor.max, 4))
        }),
    ];
    Row::new(cells, &pair.citations)
}

/// Everything that is neither pair, matrix, profile nor source.
pub(crate) fn classes(analysis: &Analysis) -> Grid<'_> {
    Grid {
        caption: "Equivalence classes".to_owned(),
        columns: vec![
            words("phase"),
            words("where"),
            words("equal"),
            prose("classes"),
            prose("in no class"),
            number("references"),
            words("rests on"),
        ],
        rows: analysis.classes.iter().map(class_set).collect(),
        note: None,
    }
}

fn class_set(set: &ClassSet) -> Row<'_> {
    let classes: Vec<String> = set.classes.iter().map(|class| format!("{{{}}}", class.join(", "))).collect();
    let unplaced: Vec<String> = set.unplaced.iter().map(|(setup, why)| format!("{setup}: {why}")).collect();
    let cells = vec![
        set.phase.name().to_owned(),
        set.scope.clone(),
        words::signals(&set.signals),
        classes.join(" "),
        unplaced.join("; "),
        words::count(set.references),
        set.basis.clone(),
    ];
    Row::new(cells, &set.citations)
}

pub(crate) fn tokens(analysis: &Analysis) -> Grid<'_> {
    let rows = analysis.tokens.iter().map(|tokens| {
        let groups = tokens.groups.iter().map(|group| format!("{{{}}}", group.join(", ")));
        let stopped = tokens.stopped.iter().map(|(setup, after)| format!("{setup} stops after {after}"));
        let groups: Vec<String> = groups.chain(stopped).collect();
        // Only equal ids of all setups are "never".
        let together = tokens.groups.len() == 1 && tokens.basis != TokenBasis::Unknown;
        let unsaid = if together { "never" } else { "unknown" };
        let part = tokens.part_at.map_or_else(|| unsaid.to_owned(), words::count);
        let cells =
            vec![tokens.reference.clone(), part, groups.join(" "), words::basis(tokens.basis).to_owned()];
        Row::new(cells, &tokens.citations)
    });
    Grid {
        caption: "Tokens of each reference".to_owned(),
        columns: vec![
            words("reference"),
            number("part at output"),
            prose("setups with equal outputs"),
            words("known by"),
        ],
        rows: rows.collect(),
        note: None,
    }
}

pub(crate) fn reproducibility(analysis: &Analysis) -> Grid<'_> {
    let rows = analysis.reproducibility.iter().map(|repeated| {
        let cells = vec![
            repeated.setup.clone(),
            repeated.phase.map_or("together", |phase| phase.name()).to_owned(),
            words::stated(repeated.repetitions.map(words::count)),
            words::state(repeated.state).to_owned(),
            words::some(repeated.distance),
            words::stated(repeated.tokens_part.map(|part| if part { "part" } else { "agree" }.to_owned())),
            repeated.note.clone(),
        ];
        Row::new(cells, &repeated.citations)
    });
    Grid {
        caption: "Repetitions of each setup".to_owned(),
        columns: vec![
            words("setup"),
            words("phase"),
            number("repetitions"),
            words("state"),
            number("largest distance"),
            words("tokens"),
            prose("note"),
        ],
        rows: rows.collect(),
        note: None,
    }
}

pub(crate) fn bounds(analysis: &Analysis) -> Grid<'_> {
    let rows = analysis.bounds.iter().map(|bound| {
        let cells = vec![
            bound.of.clone(),
            words::count(bound.honest_units),
            words::count(bound.alarms),
            words::number(bound.rate, 4),
            words::percent(bound.confidence),
            words::count(bound.needed_for_one_in_thousand),
        ];
        Row::new(cells, [])
    });
    Grid {
        caption: "Bounds on false alarms".to_owned(),
        columns: vec![
            prose("tested"),
            number("honest units"),
            number("alarms"),
            number("rate at most"),
            number("confidence"),
            number("units for 1 in 1,000"),
        ],
        rows: rows.collect(),
        note: None,
    }
}

/// Tables of the published definitions.
pub(crate) fn tables(analysis: &Analysis) -> Vec<Grid<'_>> {
    let grid = |table: &'_ mantissa_verdict::analysis::Table| Grid {
        caption: table.title.clone(),
        columns: table.columns.iter().map(|title| words(title)).collect(),
        rows: table.rows.iter().map(|row| Row::new(row.clone(), [])).collect(),
        note: table.note.clone(),
    };
    analysis.tables.iter().map(grid).collect()
}

pub(crate) fn published(analysis: &Analysis) -> Grid<'_> {
    let rows = analysis.published.iter().map(|figure| {
        let cells = vec![
            figure.name.clone(),
            figure.printed.clone(),
            figure.recomputed.clone().unwrap_or_default(),
            words::agreement(figure.agreement).to_owned(),
            figure.note.clone().unwrap_or_default(),
        ];
        Row::new(cells, [&figure.citation])
    });
    Grid {
        caption: "Published figures against their own data".to_owned(),
        columns: vec![
            words("figure"),
            number("printed"),
            number("from its data"),
            words("agreement"),
            prose("note"),
        ],
        rows: rows.collect(),
        note: None,
    }
}

pub(crate) fn thresholds(analysis: &Analysis) -> Grid<'_> {
    threshold_list(&analysis.thresholds)
}

pub(crate) fn threshold_list(thresholds: &[Threshold]) -> Grid<'_> {
    let rows = thresholds.iter().map(|threshold| {
        let value = threshold.value.to_string();
        Row::new(vec![threshold.name.clone(), value, threshold.decides.clone(), threshold.source.clone()], [])
    });
    Grid {
        caption: "Thresholds used".to_owned(),
        columns: vec![words("threshold"), number("value"), prose("decides"), prose("source")],
        rows: rows.collect(),
        note: None,
    }
}

pub(crate) fn sources(analysis: &Analysis) -> Grid<'_> {
    let rows = analysis
        .sources
        .iter()
        .map(|source| Row::new(vec![source.name.clone(), source.layout.clone(), source.digest.clone()], []));
    Grid {
        caption: "Files analyzed".to_owned(),
        columns: vec![words("file"), words("layout"), words("blake3")],
        rows: rows.collect(),
        note: None,
    }
}

/// A matrix, in at most so many digits.
pub(crate) fn matrix(matrix: &Matrix, digits: usize) -> Grid<'_> {
    let columns = std::iter::once(words("")).chain(matrix.columns.iter().map(|column| number(column)));
    let rows = matrix.rows.iter().zip(&matrix.cells).map(|(label, cells)| Row {
        cells: std::iter::once(label.clone())
            .chain(cells.iter().map(|cell| words::cell(cell, digits)))
            .collect(),
        citations: Vec::new(),
        own: std::iter::once(None).chain(cells.iter().map(|cell| cell.citation.as_ref())).collect(),
    });
    Grid { caption: matrix_caption(matrix), columns: columns.collect(), rows: rows.collect(), note: None }
}

/// A matrix in a line. What its title says already is not said again.
pub(crate) fn matrix_caption(matrix: &Matrix) -> String {
    let mut said = vec![matrix.statistic.clone()];
    if matrix.kind != MatrixKind::WithinMode {
        said.push(words::matrix_kind(matrix.kind).to_owned());
    }
    format!("{}: {}", matrix_name(matrix), said.join("; "))
}

/// What tells a matrix from the others.
pub(crate) fn matrix_name(matrix: &Matrix) -> String {
    let (phase, title) = (matrix.phase.name(), matrix.title.as_str());
    // Titles of a judgement write log-probabilities out.
    let signal =
        [words::signal(matrix.signal), "log-probabilities"].into_iter().any(|word| title.contains(word));
    let titled = signal && title.contains(phase);
    let name = match (titled, title.starts_with(phase)) {
        // A name of a file, which may come first, stays as it is.
        (true, true) => words::capital(title),
        (true, false) => title.to_owned(),
        (false, _) => format!("{title}, {phase} {}", words::signal(matrix.signal)),
    };
    match matrix.reference.as_deref() {
        Some(reference) => format!("{name}, {}", reference_name(reference)),
        None if title.contains("reference") => name,
        None => format!("{name}, all references"),
    }
}

/// A reference prompt: `reference 3`, or the words that it is called by.
pub(crate) fn reference_name(reference: &str) -> String {
    if reference.contains(' ') || reference.starts_with("ref") {
        reference.to_owned()
    } else {
        format!("reference {reference}")
    }
}

/// Profiles that share their axis, phase and signal, as one table; at most so many side by side.
pub(crate) fn profile_groups<'a>(
    profiles: impl IntoIterator<Item = &'a Profile>,
    side_by_side: usize,
) -> Vec<Vec<&'a Profile>> {
    let key = |profile: &Profile| (profile.axis, profile.phase, profile.signal);
    let mut groups: Vec<Vec<&Profile>> = Vec::new();
    for profile in profiles {
        let open =
            groups.iter_mut().find(|group| group.len() < side_by_side && key(group[0]) == key(profile));
        match open {
            Some(group) => group.push(profile),
            None => groups.push(vec![profile]),
        }
    }
    groups
}

pub(crate) fn profile_caption(group: &[&Profile]) -> String {
    group.first().map_or_else(String::new, |first| {
        format!(
            "Mean L2 by {}: {}, {}",
            words::axis(first.axis),
            first.phase.name(),
            words::signal(first.signal)
        )
    })
}

pub(crate) fn profile_name(profile: &Profile) -> String {
    format!("{} against {}", profile.a, profile.b)
}

pub(crate) fn profiles<'a>(group: &[&'a Profile]) -> Grid<'a> {
    let axis = group.first().map_or("", |first| words::axis(first.axis));
    let mut coordinates: Vec<i64> =
        group.iter().flat_map(|profile| profile.points.iter().map(|(coordinate, _)| *coordinate)).collect();
    coordinates.sort_unstable();
    coordinates.dedup();
    let value = |profile: &Profile, coordinate: i64| {
        profile.points.binary_search_by_key(&coordinate, |(at, _)| *at).ok().map_or_else(
            || words::ABSENT.to_owned(),
            |i| profile.points[i].1.map_or_else(|| "×".to_owned(), |value| words::number(value, 4)),
        )
    };
    let rows = coordinates.iter().map(|&coordinate| Row {
        cells: std::iter::once(coordinate.to_string())
            .chain(group.iter().map(|profile| value(profile, coordinate)))
            .collect(),
        citations: Vec::new(),
        own: std::iter::once(None).chain(group.iter().map(|profile| profile.citation.as_ref())).collect(),
    });
    Grid {
        caption: profile_caption(group),
        columns: std::iter::once(words(axis)).chain(group.iter().map(|p| number(&profile_name(p)))).collect(),
        rows: rows.collect(),
        note: None,
    }
}
