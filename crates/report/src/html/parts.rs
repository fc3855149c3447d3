//! What a page consists of, whichever verb made it: typed parts that [`super::page`] lays out.
//!
//! Text in them is plain and may come from files; it is escaped where it is set. Left out: how a part looks.

use mantissa_verdict::analysis::{Citation, Source};

use super::heat::{Heat, Paint, Panel};
use super::limits::Cut;
use super::lines::Lines;
use super::look::Look;
use super::scale::Scale;
use super::strips::Strips;
use crate::grid::Grid;

/// A page.
pub(super) struct Parts<'a> {
    /// What was done: `Analysis`, `Verification`, `Comparison`.
    pub(super) verb: &'static str,
    /// What it was done to, in the title and the first heading.
    pub(super) subject: String,
    /// What was looked at: model, date, hardware, evidence.
    pub(super) about: Vec<(&'static str, String)>,
    pub(super) lead: Lead,
    /// What to know before anything else is read.
    pub(super) warnings: Vec<String>,
    pub(super) overview: Option<Overview>,
    pub(super) sections: Vec<Section<'a>>,
    pub(super) sources: &'a [Source],
    /// Where everything stands that a page cuts.
    pub(super) whole: &'static str,
}

/// The answer: in a word or two, and in sentences that can be quoted alone.
pub(super) struct Lead {
    pub(super) tone: Tone,
    pub(super) word: String,
    pub(super) sentences: Vec<String>,
}

/// Whether an answer is good or bad for whoever claimed something; where nothing was claimed it is neither.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Open,
    Neutral,
}

/// Pairs × signals, or candidates × signals.
pub(super) struct Overview {
    pub(super) heading: &'static str,
    pub(super) caption: String,
    /// Over the first column.
    pub(super) corner: &'static str,
    /// Phases, each with its signals.
    pub(super) columns: Vec<(String, Vec<String>)>,
    pub(super) groups: Vec<Rows>,
    /// What the symbols mean.
    pub(super) legend: Vec<(Mark, &'static str)>,
}

/// Rows under a heading of their own.
pub(super) struct Rows {
    pub(super) heading: Option<String>,
    pub(super) rows: Vec<(String, Vec<Option<Mark>>)>,
}

/// An answer in a cell: a symbol and a colour, a word for those who do not see them, and a figure.
#[derive(Clone)]
pub(super) struct Mark {
    pub(super) look: Look,
    pub(super) word: String,
    pub(super) figure: String,
}

impl Mark {
    pub(super) fn new(look: Look, word: impl Into<String>) -> Self {
        Self { look, word: word.into(), figure: String::new() }
    }
}

pub(super) struct Section<'a> {
    pub(super) id: &'static str,
    pub(super) heading: &'static str,
    pub(super) blocks: Vec<Block<'a>>,
}

impl<'a> Section<'a> {
    pub(super) const fn new(id: &'static str, heading: &'static str, blocks: Vec<Block<'a>>) -> Self {
        Self { id, heading, blocks }
    }
}

pub(super) enum Block<'a> {
    Heading(String),
    Text(String),
    Facts(Vec<(&'static str, String)>),
    List(Vec<Item<'a>>),
    Grid(Grid<'a>),
    /// What stands under a line to unfold.
    Folded {
        summary: String,
        blocks: Vec<Block<'a>>,
    },
    /// What the cells of matrices mean, and the scale that all of them share.
    Key(Option<Scale>),
    Heat(Heat),
    /// Small multiples.
    Panels {
        caption: String,
        panels: Vec<Panel>,
    },
    Strips(Strips),
    Lines(Lines),
    /// Setups that are alike, a box per class.
    Boxes(Vec<Group>),
    Cut(Cut),
}

/// A sentence, and where its numbers stand.
pub(super) struct Item<'a> {
    pub(super) text: String,
    pub(super) citations: &'a [Citation],
}

/// A class of setups.
pub(super) struct Group {
    pub(super) heading: String,
    pub(super) members: Vec<String>,
    pub(super) placed: bool,
}

/// Whether anything in some cells is worth a panel: all alike says nothing that a sentence does not.
pub(super) fn worth_a_panel<'c>(cells: impl IntoIterator<Item = &'c Paint>) -> bool {
    cells.into_iter().any(|paint| matches!(paint, Paint::Step(_) | Paint::Unknown))
}
