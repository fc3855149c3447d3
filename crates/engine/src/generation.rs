//! Settings of generation applied to a row of logits, before a token is chosen.
//!
//! Left out: what the settings are (`mantissa_numerics::generation`) and drawing tokens.

use std::borrow::Cow;

use mantissa_numerics::Generation;
use mantissa_numerics::setup::Hardware;

/// Where a row of logits stands.
///
/// Example: [`scores`].
#[derive(Debug, Clone, Copy)]
pub struct Generated<'g> {
    /// Tokens of the prompt.
    pub prompt: &'g [u32],
    /// Tokens chosen so far.
    pub output: &'g [u32],
    /// Most tokens of an output.
    pub longest: usize,
}

/// Logits as a greedy choice sees them under `settings`.
///
/// *Shape:* a row of the vocabulary.
/// *Rounding:* binary32, each operation rounded once. A GPU does not divide by the repetition penalty: PyTorch takes
/// its reciprocal in binary64, rounds that, and multiplies (`goldens/gpu/penalty.json`: 0 of 9,723,904 values differ on
/// an H200).
/// *Source:* transformers 5.17, `generation/logits_process.py`, in the order of `_get_logits_processor`; the penalties
/// of frequency and presence, which it lacks, follow that of repetition as in vLLM (`apply_penalties`).
///
/// ```
/// use mantissa_engine::generation::{Generated, scores};
/// use mantissa_engine::{Hardware, greedy};
/// use mantissa_numerics::Generation;
///
/// let at = Generated { prompt: &[0, 2], output: &[2], longest: 8 };
/// let logits = [-1.0, 2.0, 2.5, 0.0];
/// let settings = Generation { repetition_penalty: Some(2.0), ..Generation::default() };
/// assert_eq!(*scores(&settings, Hardware::Cpu, at, &logits), [-2.0, 2.0, 1.25, 0.0]);
/// assert_eq!((greedy(&logits), greedy(&scores(&settings, Hardware::Cpu, at, &logits))), (2, 1));
/// let none = Generation::default();
/// assert_eq!(*scores(&none, Hardware::Cpu, at, &logits), logits);
/// ```
#[must_use]
pub fn scores<'l>(
    settings: &Generation,
    hardware: Hardware,
    at: Generated<'_>,
    logits: &'l [f32],
) -> Cow<'l, [f32]> {
    if settings.keep_the_largest() {
        return Cow::Borrowed(logits);
    }
    let mut row = Row { scores: logits.to_vec(), at, ends: &settings.eos_token_id };
    row.bias(settings.sequence_bias.iter().map(|(ids, bias)| (ids.as_slice(), rounded(*bias))));
    if let Some(penalty) = settings.repetition_penalty {
        row.repetition(penalty, hardware != Hardware::Cpu);
    }
    row.counted(
        settings.frequency_penalty.map_or(0.0, rounded),
        settings.presence_penalty.map_or(0.0, rounded),
    );
    if let Some(length) = settings.no_repeat_ngram_size {
        row.repeated(length as usize);
    }
    let words = settings.bad_words_ids.iter().map(Vec::as_slice);
    let ends = &settings.eos_token_id;
    let words = words.filter(|word| !matches!(word, [one] if ends.contains(one)));
    row.bias(words.map(|word| (word, f32::NEG_INFINITY)));
    let (length, new) = (at.prompt.len() + at.output.len(), at.output.len());
    if new < settings.without_end(at.prompt.len()) {
        row.ban(ends);
    }
    if let Some(token) = settings.forced_bos_token_id.filter(|_| length == 1) {
        row.force(&[token]);
    }
    if !settings.forced_eos_token_id.is_empty() && new + 1 == at.longest {
        row.force(&settings.forced_eos_token_id);
    }
    if settings.remove_invalid_values {
        row.scores.iter_mut().for_each(|score| *score = finite(*score));
    }
    if let Some((from, factor)) = settings.exponential_decay_length_penalty {
        row.decay(from as usize, factor);
    }
    row.ban(&settings.suppress_tokens);
    let begin = usize::from(at.prompt.len() <= 1 && settings.forced_bos_token_id.is_some());
    if new == begin {
        row.ban(&settings.begin_suppress_tokens);
    }
    Cow::Owned(row.scores)
}

struct Row<'r> {
    scores: Vec<f32>,
    at: Generated<'r>,
    ends: &'r [u32],
}

impl Row<'_> {
    /// Token `i` of prompt and output.
    fn token(&self, i: usize) -> Option<u32> {
        let Generated { prompt, output, .. } = self.at;
        prompt.get(i).or_else(|| output.get(i.checked_sub(prompt.len())?)).copied()
    }

    fn length(&self) -> usize {
        self.at.prompt.len() + self.at.output.len()
    }

    fn score(&mut self, token: u32) -> Option<&mut f32> {
        self.scores.get_mut(usize::try_from(token).ok()?)
    }

    /// Whether the tokens from `i` on are these.
    fn holds(&self, i: usize, ids: &[u32]) -> bool {
        ids.iter().enumerate().all(|(k, id)| self.token(i + k) == Some(*id))
    }

    /// Adds to the last token of each sequence whose others end what is there; several of a token are summed first.
    fn bias<'s>(&mut self, sequences: impl Iterator<Item = (&'s [u32], f32)>) {
        let mut sums: Vec<(u32, f32)> = Vec::new();
        // Of two for the same sequence the later one counts.
        let mut each: Vec<(&[u32], f32)> = Vec::new();
        for (ids, bias) in sequences {
            match each.iter_mut().find(|(known, _)| *known == ids) {
                Some(known) => known.1 = bias,
                None => each.push((ids, bias)),
            }
        }
        // Single tokens come before longer sequences.
        each.sort_by_key(|(ids, _)| ids.len() != 1);
        for (ids, bias) in each {
            let Some((last, before)) = ids.split_last() else { continue };
            let fits = ids.len() == 1 || ids.len() <= self.length();
            if fits && self.holds(self.length().saturating_sub(before.len()), before) {
                match sums.iter_mut().find(|(token, _)| token == last) {
                    Some((_, sum)) => *sum += bias,
                    None => sums.push((*last, bias)),
                }
            }
        }
        for (token, sum) in sums {
            if let Some(score) = self.score(token) {
                *score += sum;
            }
        }
    }

    fn repetition(&mut self, number: f64, by_reciprocal: bool) {
        let mut seen: Vec<u32> = [self.at.prompt, self.at.output].concat();
        seen.sort_unstable();
        seen.dedup();
        let (penalty, reciprocal) = (rounded(number), rounded(1.0 / number));
        for token in seen {
            if let Some(score) = self.score(token) {
                *score = match *score {
                    negative if negative < 0.0 => negative * penalty,
                    score if by_reciprocal => score * reciprocal,
                    score => score / penalty,
                };
            }
        }
    }

    fn counted(&mut self, frequency: f32, presence: f32) {
        if frequency.to_bits() == 0 && presence.to_bits() == 0 {
            return;
        }
        let mut chosen = self.at.output.to_vec();
        chosen.sort_unstable();
        for same in chosen.chunk_by(|a, b| a == b) {
            let count = u16::try_from(same.len()).map_or(f32::INFINITY, f32::from);
            if let Some(score) = self.score(same[0]) {
                *score -= frequency * count;
                *score -= presence;
            }
        }
    }

    /// Bans what would complete a run of `length` tokens for the second time.
    fn repeated(&mut self, length: usize) {
        let all = self.length();
        let Some(start) = (all + 1).checked_sub(length).filter(|_| length > 0) else { return };
        let ending: Vec<u32> = (start..all).filter_map(|i| self.token(i)).collect();
        let runs = (0..start).filter(|i| self.holds(*i, &ending));
        let banned: Vec<u32> = runs.filter_map(|i| self.token(i + length - 1)).collect();
        self.ban(&banned);
    }

    fn ban(&mut self, tokens: &[u32]) {
        for token in tokens {
            if let Some(score) = self.score(*token) {
                *score = f32::NEG_INFINITY;
            }
        }
    }

    fn force(&mut self, tokens: &[u32]) {
        self.scores.fill(f32::NEG_INFINITY);
        for token in tokens {
            if let Some(score) = self.score(*token) {
                *score = 0.0;
            }
        }
    }

    fn decay(&mut self, from: usize, factor: f64) {
        let Some(steps) = self.at.output.len().checked_sub(from).filter(|steps| *steps > 0) else { return };
        let grown = rounded(libm::pow(factor, u32::try_from(steps).map_or(f64::INFINITY, f64::from)) - 1.0);
        for end in self.ends {
            if let Some(score) = self.score(*end) {
                *score += score.abs() * grown;
            }
        }
    }
}

/// A number of the settings in binary32.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the one rounding of a Python number that meets a binary32 tensor"
)]
const fn rounded(number: f64) -> f32 {
    number as f32
}

fn finite(score: f32) -> f32 {
    match score {
        nan if nan.is_nan() => 0.0,
        f32::INFINITY => f32::MAX,
        f32::NEG_INFINITY => f32::MIN,
        score => score,
    }
}
