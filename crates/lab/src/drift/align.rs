//! Which runs of two sides are of the same tokens.

use super::fault::DriftFault;
use super::given::{Given, GivenRun};
use crate::error::LabError;

/// Two runs that begin with the same tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aligned {
    /// What the prompt is called.
    pub prompt: String,
    /// The run of each side.
    pub runs: [GivenRun; 2],
    /// Tokens that both sequences begin with.
    pub tokens: usize,
}

/// Runs of two sides whose sequences begin with the same tokens: each of the first with the one of the second that it
/// shares most with, at least all of the shorter prompt but its last token. Also, how many runs have no partner.
///
/// *Errors:* a run without ids of its prompt; nothing that fits.
pub(crate) fn aligned(sides: [&Given<'_>; 2]) -> Result<(Vec<Aligned>, usize), LabError> {
    let (of_a, mut free) = (sides[0].runs()?, sides[1].runs()?);
    let all = of_a.len() + free.len();
    let mut found = Vec::new();
    for a in of_a {
        let shared = |b: &GivenRun| a.ids.iter().zip(&b.ids).take_while(|(x, y)| x == y).count();
        let Some(place) = (0..free.len()).rev().max_by_key(|place| shared(&free[*place])) else { break };
        let tokens = shared(&free[place]);
        if tokens + 1 >= a.prompt.min(free[place].prompt) && tokens > 0 {
            let b = free.remove(place);
            found.push(Aligned { prompt: a.name.clone(), runs: [a, b], tokens });
        }
    }
    if found.is_empty() {
        let [a, b] = sides.map(|side| side.origin().display().to_string());
        return Err(DriftFault::OtherTokens { a, b }.into());
    }
    let unmatched = all - 2 * found.len();
    Ok((found, unmatched))
}
