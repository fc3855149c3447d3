//! Log-probabilities of a prompt's own tokens: compared while the prompt's pass runs, since logits of all its positions
//! may not fit into memory.

use mantissa_engine::{Engine, KvCache, logprobs_at};
use mantissa_evidence::Record;
use mantissa_evidence::record::RowKey;
use mantissa_numerics::Phase;

use crate::error::LabError;
use crate::replay::claim::Logprobs;
use crate::replay::job::Job;
use crate::replay::plan::ReplayPlan;
use crate::replay::seen::{Seen, listed};

/// The first pass of a tree of jobs.
pub(super) struct FirstPass<'f> {
    pub record: &'f Record,
    pub plan: &'f ReplayPlan,
    /// Sequences of the pass.
    pub batch_size: usize,
}

impl FirstPass<'_> {
    /// Feeds `ids` into `cache`. Returns the logits of the `kept` last positions; those before are compared with what
    /// the evidence of any job lists of them.
    pub(super) fn run(
        &self,
        engine: &Engine<'_>,
        (cache, ids, kept): (&mut KvCache, &[u32], usize),
        jobs: &mut [Job],
        seen: &mut Seen,
    ) -> Result<Vec<f32>, LabError> {
        if !jobs.iter().any(|job| self.plan.runs[job.run].scored) {
            return Ok(engine.prefill(cache, ids, self.batch_size, 0, kept, seen)?);
        }
        let mut compared = Ok(());
        let mut each = |position: usize, logits: &[f32]| {
            if compared.is_ok() {
                compared = jobs.iter_mut().try_for_each(|job| self.compare(engine, job, position, logits));
            }
        };
        let last = engine.scored_prefill(cache, ids, self.batch_size, kept, seen, &mut each)?;
        compared.map(|()| last)
    }

    /// Compares what evidence lists of the token behind `position`.
    fn compare(
        &self,
        engine: &Engine<'_>,
        job: &mut Job,
        position: usize,
        logits: &[f32],
    ) -> Result<(), LabError> {
        let run = &self.plan.runs[job.run];
        let (Logprobs::Engine(decimals), Some(recipe)) = (run.logprobs, run.classes[job.class].logprobs)
        else {
            return Ok(());
        };
        // Rows of runner V1's product begin at its first position's.
        let logits_before = position * logits.len();
        let before = run.prompt.len().checked_sub(position).and_then(|before| i32::try_from(before).ok());
        let Some(position) = before.filter(|before| run.scored && *before > 1).map(|before| -before) else {
            return Ok(());
        };
        let key = RowKey { phase: Phase::Prefill, step: 0, position };
        if let Some(found) = self.record.candidates(job.run, key)? {
            let replay = logprobs_at(engine.setup().isa, recipe, logits, logits_before);
            listed(&mut job.facts.prefill, (0, position), found, decimals, &replay);
        }
        Ok(())
    }
}
