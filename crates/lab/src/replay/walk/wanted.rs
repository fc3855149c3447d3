//! What the evidence of jobs holds, so that a walk keeps no more.

use mantissa_evidence::Record;
use mantissa_numerics::recipe::LogSoftmaxRecipe;
use mantissa_numerics::{Phase, Site};

use crate::replay::job::Job;
use crate::replay::plan::ReplayPlan;

/// Evidence, and what is to be replayed of it.
pub(super) struct Wanted<'w> {
    pub record: &'w Record,
    pub plan: &'w ReplayPlan,
}

impl Wanted<'_> {
    /// How far before the end of a window its first position lies.
    fn reach(&self, run: usize) -> usize {
        if self.plan.runs[run].scored {
            return 1;
        }
        let layouts = [Phase::Prefill, Phase::Decode].map(|phase| self.record.layout(run, phase));
        let first = layouts.into_iter().flatten().filter_map(|layout| layout.positions.first());
        first.map(|p| p.unsigned_abs() as usize).max().unwrap_or(1).max(1)
    }

    pub(super) fn reach_of(&self, jobs: &[Job]) -> usize {
        jobs.iter().map(|job| self.reach(job.run)).max().unwrap_or(1)
    }

    pub(super) fn sites(&self, jobs: &[Job]) -> Vec<Site> {
        let layouts = jobs.iter().flat_map(|job| {
            [Phase::Prefill, Phase::Decode].into_iter().filter_map(|phase| self.record.layout(job.run, phase))
        });
        let mut sites: Vec<Site> = layouts.flat_map(|layout| layout.tensors.keys().copied()).collect();
        sites.sort_unstable();
        sites.dedup();
        sites
    }

    /// Recipes of log-probabilities that the evidence of jobs states, each once.
    pub(super) fn logprobs(&self, jobs: &[Job]) -> Vec<LogSoftmaxRecipe> {
        let mut stated = Vec::new();
        for recipe in jobs.iter().filter_map(|job| self.plan.runs[job.run].logprobs.stated()) {
            if !stated.contains(&recipe) {
                stated.push(recipe);
            }
        }
        stated
    }

    pub(super) fn top_k(&self, jobs: &[Job]) -> usize {
        let wanted = jobs.iter().filter(|job| self.plan.runs[job.run].logprobs.stated().is_some());
        let layouts = wanted.flat_map(|job| {
            [Phase::Prefill, Phase::Decode].into_iter().filter_map(|phase| self.record.layout(job.run, phase))
        });
        layouts.filter_map(|layout| layout.top_k).max().unwrap_or(0)
    }
}
