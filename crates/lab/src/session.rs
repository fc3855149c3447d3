//! The one loop of prefill and decode: prompts in, tokens and signals out. Recording, producing and planting use it.
//!
//! What computes is an [`Inference`], so that the loop can be tested without a model. Left out: what is kept (a tap)
//! and replaying tokens that are known in advance (`replay::walk`).

use mantissa_engine::generation::{Generated, scores};
use mantissa_engine::{Engine, EngineError, Hardware, KvCache, NoTap, Tap, TokenLogprob, greedy};
use mantissa_numerics::setup::Padding;
use mantissa_numerics::{Generation, Phase};

use crate::error::LabError;

/// Something that feeds tokens to sequences and returns logits.
pub(crate) trait Inference {
    /// What a sequence leaves for the next step.
    type Cache;

    /// Logits of a row.
    fn vocabulary(&self) -> usize;
    /// Room for a sequence of `tokens` tokens that begins with a prompt of `prompt`, beside its padding.
    fn cache(&self, tokens: usize, padding: Padding, prompt: usize) -> Self::Cache;
    /// Feeds a prompt; returns logits of its last `keep` positions.
    fn prefill(
        &self,
        cache: &mut Self::Cache,
        ids: &[u32],
        batch_size: usize,
        sequence: usize,
        keep: usize,
        taps: &mut dyn Tap,
    ) -> Result<Vec<f32>, EngineError>;
    /// Feeds a token to each cache, in a pass of `batch_size` rows; returns logits of each.
    fn step(
        &self,
        caches: &mut [Self::Cache],
        ids: &[u32],
        batch_size: usize,
        taps: &mut dyn Tap,
    ) -> Result<Vec<f32>, EngineError>;
    /// The most probable tokens of a row of logits.
    fn top(&self, phase: Phase, logits: &[f32], k: usize) -> Vec<TokenLogprob>;
}

impl Inference for Engine<'_> {
    type Cache = KvCache;

    fn vocabulary(&self) -> usize {
        self.config().vocab_size
    }

    fn cache(&self, tokens: usize, padding: Padding, prompt: usize) -> KvCache {
        self.padded_cache(tokens, padding, prompt)
    }

    fn prefill(
        &self,
        cache: &mut KvCache,
        ids: &[u32],
        batch_size: usize,
        sequence: usize,
        keep: usize,
        taps: &mut dyn Tap,
    ) -> Result<Vec<f32>, EngineError> {
        Engine::prefill(self, cache, ids, batch_size, sequence, keep, taps)
    }

    fn step(
        &self,
        caches: &mut [KvCache],
        ids: &[u32],
        batch_size: usize,
        taps: &mut dyn Tap,
    ) -> Result<Vec<f32>, EngineError> {
        match caches {
            [cache] if batch_size != 1 => self.decode_row(cache, ids[0], batch_size, taps),
            caches => self.decode(caches, ids, taps),
        }
    }

    fn top(&self, phase: Phase, logits: &[f32], k: usize) -> Vec<TokenLogprob> {
        self.top_logprobs(phase, logits, k)
    }
}

/// What is fed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session<'s> {
    /// Prompts of the sequences that are computed; the first is measured.
    pub prompts: &'s [&'s [u32]],
    /// Sequences of the batch, of which the others are there for dispatch alone.
    pub batch_size: usize,
    /// Padding of each sequence that is computed.
    pub padding: Padding,
    /// Decode steps.
    pub steps: usize,
    /// Tokens fed to the measured sequence instead of its own greedy ones.
    pub forced: Option<&'s [u32]>,
    /// Settings that act on the choice of tokens.
    pub settings: &'s Generation,
    /// Whose arithmetic they are applied in.
    pub hardware: Hardware,
}

/// Takes in sites as a tap, and logits, which are no site.
pub(crate) trait Keep: Tap {
    /// Logits of one position of the measured sequence; `top` gives their top candidates.
    fn logits(&mut self, at: (Phase, usize), logits: &[f32], top: &mut dyn FnMut() -> Vec<TokenLogprob>);
    /// Is told the token that the measured sequence is fed in the next decode step.
    fn fed(&mut self, _token: u32) {}
    /// Whether nothing more is taken in, so that nothing more need be computed.
    fn stopped(&self) -> bool {
        false
    }
}

/// Signals kept of the measured sequence.
pub(crate) struct Kept<'k> {
    /// Where they go.
    pub capture: &'k mut dyn Keep,
    /// Positions of the prompt whose logits are kept.
    pub reach: usize,
    /// Candidates per position.
    pub top_k: usize,
}

impl Session<'_> {
    /// Feeds the prompts, then the steps; `progress` is told tokens fed and tokens in all. Returns the tokens that each
    /// sequence consumed, which are fewer where what is kept stopped.
    ///
    /// *Errors:* the engine's; a prompt shorter than what is kept of it.
    pub(crate) fn run<I: Inference>(
        &self,
        inference: &I,
        mut kept: Option<Kept<'_>>,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Vec<Vec<u32>>, LabError> {
        let Some(length) = self.prompts.first().map(|ids| ids.len()) else {
            return Err(LabError::Nothing { what: "prompt" });
        };
        let reach = kept.as_ref().map_or(1, |kept| kept.reach);
        if length < reach {
            return Err(LabError::PromptShort { tokens: length, reach });
        }
        let vocabulary = inference.vocabulary();
        let total = self.prompts.iter().map(|ids| ids.len() + self.steps).sum();
        let mut done = 0;
        let mut next = Vec::with_capacity(self.prompts.len());
        let mut caches = Vec::with_capacity(self.prompts.len());
        for (sequence, ids) in self.prompts.iter().enumerate() {
            let mut cache = inference.cache(ids.len() + self.steps, self.padding, ids.len());
            let mut ignore = NoTap;
            let (keep, taps): (usize, &mut dyn Tap) = match &mut kept {
                Some(kept) if sequence == 0 => (reach, kept.capture),
                _ => (1, &mut ignore),
            };
            let logits = inference.prefill(&mut cache, ids, self.batch_size, sequence, keep, taps)?;
            if let Some(kept) = kept.as_mut().filter(|_| sequence == 0) {
                for (position, row) in (length - reach..).zip(logits.chunks_exact(vocabulary)) {
                    let k = kept.top_k;
                    let mut top = || inference.top(Phase::Prefill, row, k);
                    kept.capture.logits((Phase::Prefill, position), row, &mut top);
                }
            }
            next.push(
                logits.chunks_exact(vocabulary).next_back().map_or(0, |row| self.choice(sequence, &[], row)),
            );
            caches.push(cache);
            done += ids.len();
            progress(done, total);
        }
        let mut outputs = vec![Vec::with_capacity(self.steps); self.prompts.len()];
        for step in 0..self.steps {
            if kept.as_ref().is_some_and(|kept| kept.capture.stopped()) {
                break;
            }
            if let Some(token) = self.forced.and_then(|forced| forced.get(step)) {
                next[0] = *token;
            }
            outputs.iter_mut().zip(&next).for_each(|(output, token)| output.push(*token));
            let mut ignore = NoTap;
            let taps: &mut dyn Tap = match &mut kept {
                Some(kept) => {
                    kept.capture.fed(next[0]);
                    kept.capture
                }
                None => &mut ignore,
            };
            let logits = inference.step(&mut caches, &next, self.batch_size, taps)?;
            if let Some(kept) = &mut kept {
                let (row, k) = (&logits[..vocabulary], kept.top_k);
                let mut top = || inference.top(Phase::Decode, row, k);
                kept.capture.logits((Phase::Decode, length + step), row, &mut top);
            }
            let rows = logits.chunks_exact(vocabulary).zip(&outputs).enumerate();
            next = rows.map(|(sequence, (row, output))| self.choice(sequence, output, row)).collect();
            done += caches.len();
            progress(done, total);
        }
        Ok(outputs)
    }

    /// The token that a sequence goes on with.
    fn choice(&self, sequence: usize, output: &[u32], logits: &[f32]) -> u32 {
        let prompt = self.prompts.get(sequence).copied().unwrap_or_default();
        let at = Generated { prompt, output, longest: self.steps };
        greedy(&scores(self.settings, self.hardware, at, logits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest logit is that of the sum of all tokens fed, modulo eight.
    struct Sum;

    impl Inference for Sum {
        type Cache = u32;

        fn vocabulary(&self) -> usize {
            8
        }

        fn cache(&self, _tokens: usize, _padding: Padding, _prompt: usize) -> u32 {
            0
        }

        fn prefill(
            &self,
            cache: &mut u32,
            ids: &[u32],
            _batch_size: usize,
            _sequence: usize,
            keep: usize,
            _taps: &mut dyn Tap,
        ) -> Result<Vec<f32>, EngineError> {
            *cache = ids.iter().sum();
            Ok(logits(*cache).repeat(keep))
        }

        fn step(
            &self,
            caches: &mut [u32],
            ids: &[u32],
            _batch_size: usize,
            _taps: &mut dyn Tap,
        ) -> Result<Vec<f32>, EngineError> {
            caches.iter_mut().zip(ids).for_each(|(cache, id)| *cache += id);
            Ok(caches.iter().flat_map(|cache| logits(*cache)).collect())
        }

        fn top(&self, _phase: Phase, _logits: &[f32], _k: usize) -> Vec<TokenLogprob> {
            Vec::new()
        }
    }

    /// Takes in two steps.
    struct Full {
        fed: usize,
    }

    impl Tap for Full {
        fn wants(&self, _site: mantissa_numerics::Site) -> bool {
            false
        }

        fn tap(&mut self, _view: mantissa_engine::View<'_>) {}
    }

    impl Keep for Full {
        fn logits(&mut self, _: (Phase, usize), _: &[f32], _: &mut dyn FnMut() -> Vec<TokenLogprob>) {}

        fn fed(&mut self, _token: u32) {
            self.fed += 1;
        }

        fn stopped(&self) -> bool {
            self.fed > 1
        }
    }

    fn logits(sum: u32) -> Vec<f32> {
        (0..8).map(|id| if id == sum % 8 { 1.0 } else { 0.0 }).collect()
    }

    #[test]
    fn greedy_tokens_follow_and_forced_ones_replace_those_of_the_measured_sequence() {
        let prompts: [&[u32]; 2] = [&[1, 2], &[5, 0]];
        let padding = Padding::None;
        let (settings, hardware) = (&Generation::default(), Hardware::Cpu);
        let session =
            Session { prompts: &prompts, batch_size: 2, padding, steps: 3, forced: None, settings, hardware };
        let told = std::cell::RefCell::new(Vec::new());
        let outputs = session.run(&Sum, None, &|done, total| told.borrow_mut().push((done, total)));
        assert_eq!(outputs.expect("tokens"), [[3, 6, 4], [5, 2, 4]]);
        assert_eq!(*told.borrow(), [(2, 10), (4, 10), (6, 10), (8, 10), (10, 10)]);
        let forced = Session { forced: Some(&[7, 7, 7]), ..session };
        assert_eq!(forced.run(&Sum, None, &|_, _| {}).expect("tokens"), [[7, 7, 7], [5, 2, 4]]);
        // Each sequence by its own tokens. Of the first, sums of 11 and 11 are 3, which its prompt has: 0 and 2 are the
        // first of the others, and 13 is 5. Of the second, 5 is banned, then 6 and 12 are 6 and 4.
        let settings = &Generation { no_repeat_ngram_size: Some(1), ..Generation::default() };
        let prompts: [&[u32]; 2] = [&[1, 3, 7], &[5, 0, 0]];
        let outputs = Session { prompts: &prompts, settings, ..session }.run(&Sum, None, &|_, _| {});
        assert_eq!(outputs.expect("tokens"), [[0, 2, 5], [1, 6, 4]]);
        // What is kept is full after the first step: the second is the last.
        let mut full = Full { fed: 0 };
        let kept = Kept { capture: &mut full, reach: 1, top_k: 0 };
        let stopped = session.run(&Sum, Some(kept), &|_, _| {}).expect("tokens");
        assert_eq!((stopped, full.fed), (vec![vec![3, 6], vec![5, 2]], 2));
        let empty = Session { prompts: &[], ..session };
        assert!(matches!(empty.run(&Sum, None, &|_, _| {}), Err(LabError::Nothing { .. })));
    }
}
