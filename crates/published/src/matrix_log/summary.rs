//! What such a log prints about its matrices: averages, quotients, classes, excluded pairs.

use mantissa_evidence::error::Result;

use super::section::{Group, Section};
use crate::log::lines::{Lines, fields};
use crate::log::printed::{Placed, Printed};
use crate::sheet::Signal;

/// One statement about the average of a group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    /// Which matrices.
    pub(crate) group: Group,
    /// What is stated.
    pub(crate) stated: Stated,
}

/// What is stated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stated {
    /// Mean of the diagonal.
    Diagonal(Printed),
    /// Mean of the cells off the diagonal.
    OffDiagonal(Printed),
    /// The same without the excluded pairs.
    Kept(Printed),
    /// Quotient of the two, over all pairs.
    Snr(Printed),
    /// The same without the excluded pairs.
    SnrKept(Printed),
    /// Smallest and largest off the diagonal.
    Range([Printed; 2]),
    /// A class of values without a distance.
    Class(Placed<Vec<String>>),
    /// A pair of values that is left out, in both directions.
    Excluded(Placed<[String; 2]>),
    /// Cells that are kept.
    Count(Placed<u64>),
}

/// Which block of the analysis the reader is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Block {
    #[default]
    None,
    Diagonal,
    All,
    Kept,
    Excluded,
}

/// Reads the statements line by line.
#[derive(Debug, Default)]
pub(crate) struct Summaries {
    block: Block,
}

impl Summaries {
    /// A new section begins.
    pub(crate) fn leave(&mut self) {
        self.block = Block::None;
    }

    /// What a line states, if anything.
    pub(crate) fn take(
        &mut self,
        lines: &Lines,
        line: usize,
        text: &str,
        section: &Section,
    ) -> Result<Vec<Summary>> {
        let of = |signal: Option<Signal>, stated: Stated| Summary { group: section.group(signal), stated };
        let figure = |text: &str| lines.figure(line, text.trim_end_matches('×'));
        self.block = match text {
            _ if text.starts_with("Diagonal (") && text.ends_with(':') => Block::Diagonal,
            _ if text.starts_with("Off-diagonal (all") => Block::All,
            _ if text.starts_with("Off-diagonal (meaningful") => Block::Kept,
            _ if text.starts_with("Excluded equivalent pairs") => Block::Excluded,
            _ => self.block,
        };
        let both = [("Key vectors", Signal::KeyVectors), ("Logprobs", Signal::Logprobs)];
        for (name, signal) in both {
            if let Some([mean, snr]) = fields::<2>(text, &format!("{name} - Mean: {{}}, SNR: {{}}")) {
                let (mean, snr) = (figure(mean)?, figure(snr)?);
                let both = match self.block {
                    Block::Kept => [Stated::Kept(mean), Stated::SnrKept(snr)],
                    _ => [Stated::OffDiagonal(mean), Stated::Snr(snr)],
                };
                return Ok(both.map(|stated| of(Some(signal), stated)).into());
            }
            if self.block == Block::Diagonal
                && let Some([mean]) = fields::<1>(text, &format!("{name}: {{}}"))
            {
                return Ok(vec![of(Some(signal), Stated::Diagonal(figure(mean)?))]);
            }
        }
        let stated = if let Some([_, mean]) = fields::<2>(text, "Diagonal ({}): {}") {
            Stated::Diagonal(figure(mean)?)
        } else if let Some([_, mean]) = fields::<2>(text, "Off-diagonal ({}): {}") {
            Stated::OffDiagonal(figure(mean)?)
        } else if let Some([mean]) = fields::<1>(text, "Mean: {}") {
            Stated::OffDiagonal(figure(mean)?)
        } else if let Some([low, high]) = fields::<2>(text, "Range: [{}, {}]") {
            Stated::Range([figure(low)?, figure(high)?])
        } else if let Some([snr]) = fields::<1>(text, "SNR: {}") {
            Stated::Snr(figure(snr)?)
        } else if let Some([_, members]) = fields::<2>(text, "Class {}: [{}]") {
            let bare = |member: &str| member.trim().trim_matches('\'').to_owned();
            Stated::Class(Placed { value: members.split(',').map(bare).collect(), line })
        } else if self.block == Block::Excluded
            && let Some([a, b, _, _]) = fields::<4>(text, "({}, {}) and ({}, {})")
        {
            let bare = |value: &str| value.trim().trim_matches('\'').to_owned();
            Stated::Excluded(Placed { value: [bare(a), bare(b)], line })
        } else if self.block == Block::Kept
            && let Some([count]) = fields::<1>(text, "Count: {}")
        {
            Stated::Count(Placed { value: lines.count(line, count)?, line })
        } else {
            return Ok(Vec::new());
        };
        Ok(vec![of(None, stated)])
    }
}
