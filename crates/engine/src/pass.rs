//! What is run at once: rows, the steps they belong to, and the plan of each step.

use std::ops::Range;

use mantissa_numerics::recipe::{KernelRecipe, ObservedKernel};
use mantissa_numerics::site::Phase;

use crate::dispatch::Planned;
use crate::plan::Plan;
use crate::tap::RowId;

/// Part of a pass, or several passes in lockstep: rows that go through the model together.
///
/// A step's rows are computed by the recipes of the whole pass that the step belongs to, however many of its rows are
/// here.
pub(crate) struct Pass<'p> {
    /// Which row of which sequence; the same number for all rows of one cache.
    pub rows: &'p [RowId],
    /// The cache of each row.
    pub caches: &'p [usize],
    /// Which sequence of its step's batch each row is of.
    pub sequences: &'p [usize],
    /// Consecutive rows by step.
    pub steps: &'p [Step],
    /// Plans that steps name.
    pub plans: &'p [Plan],
}

/// The rows of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Place in [`Pass::plans`].
    pub plan: usize,
    /// Its rows.
    pub rows: Range<usize>,
}

/// Which section of the graph is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Stem,
    /// A block, counted from 0, and its kind.
    Block {
        layer: usize,
        kind: usize,
    },
    Head,
}

impl Place {
    /// The block at work, counted from 0.
    pub(crate) fn layer(self) -> usize {
        match self {
            Self::Block { layer, .. } => layer,
            Self::Stem | Self::Head => 0,
        }
    }

    /// What `plan` says of this section.
    pub(crate) fn planned(self, plan: &Plan) -> &[Option<Planned>] {
        match self {
            Self::Stem => &plan.stem,
            Self::Block { kind, .. } => &plan.kinds[kind],
            Self::Head => &plan.head,
        }
    }
}

/// Consecutive rows that a node treats by one recipe.
pub(crate) struct Run<'p> {
    pub rows: Range<usize>,
    /// Plans of its steps, each once in a row.
    pub plans: Vec<usize>,
    pub planned: &'p Planned,
}

impl<'p> Pass<'p> {
    /// The phase of all steps.
    pub(crate) fn phase(&self) -> Phase {
        self.plans.first().map_or(Phase::Prefill, |plan| plan.shape.phase)
    }

    /// `rows` by steps whose passes have the same number of rows.
    pub(crate) fn alike(&self, rows: &Range<usize>) -> Vec<Range<usize>> {
        let mut found: Vec<(usize, Range<usize>)> = Vec::new();
        for step in
            self.steps.iter().filter(|step| rows.start <= step.rows.start && step.rows.end <= rows.end)
        {
            let m = self.plans[step.plan].shape.rows();
            match found.last_mut() {
                Some((last, range)) if *last == m => range.end = step.rows.end,
                _ => found.push((m, step.rows.clone())),
            }
        }
        found.into_iter().map(|(_, range)| range).collect()
    }

    /// The rows of nodes `nodes` (of which each has a recipe) by recipe: consecutive steps with the same recipes are
    /// one run.
    pub(crate) fn runs(&self, place: Place, nodes: Range<usize>) -> Vec<Run<'p>> {
        let recipes = |plan: usize| place.planned(&self.plans[plan]).get(nodes.clone()).unwrap_or_default();
        let mut runs: Vec<Run<'p>> = Vec::new();
        for step in self.steps {
            let Some(Some(planned)) = recipes(step.plan).first() else { continue };
            match runs.last_mut() {
                Some(run)
                    if run
                        .plans
                        .last()
                        .is_some_and(|last| *last == step.plan || recipes(*last) == recipes(step.plan)) =>
                {
                    run.rows.end = step.rows.end;
                    if run.plans.last() != Some(&step.plan) {
                        run.plans.push(step.plan);
                    }
                }
                _ => runs.push(Run { rows: step.rows.clone(), plans: vec![step.plan], planned }),
            }
        }
        runs
    }
}

/// Kernels that ran, plan by plan, in the order each first ran: what the backend reports, whatever was planned.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    plans: Vec<(usize, Vec<Kernel>)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Kernel {
    phase: Phase,
    op: &'static str,
    m: usize,
    n: usize,
    k: usize,
    recipe: KernelRecipe,
}

impl Ran {
    /// Notes that a kernel ran for the steps of a plan; blocks repeat each other, so each kernel is kept once.
    pub(crate) fn note(
        &mut self,
        plan: (usize, &Plan),
        op: &'static str,
        [n, k]: [usize; 2],
        recipe: KernelRecipe,
    ) {
        let (plan, Plan { shape, .. }) = plan;
        let kernel = Kernel { phase: shape.phase, op, m: shape.rows(), n, k, recipe };
        let known = self.plans.iter().position(|(known, _)| *known == plan).unwrap_or_else(|| {
            self.plans.push((plan, Vec::new()));
            self.plans.len() - 1
        });
        let kernels = &mut self.plans[known].1;
        if !kernels.contains(&kernel) {
            kernels.push(kernel);
        }
    }

    /// What ran for the steps of a plan.
    pub(crate) fn of(&self, plan: usize) -> Vec<ObservedKernel> {
        let found = self.plans.iter().find(|(known, _)| *known == plan);
        found.map_or_else(Vec::new, |(_, kernels)| kernels.iter().map(|kernel| kernel.observed()).collect())
    }

    /// What ran for any step, each kernel once.
    pub(crate) fn all(&self) -> Vec<ObservedKernel> {
        let mut all: Vec<ObservedKernel> = Vec::new();
        for kernel in self.plans.iter().flat_map(|(_, kernels)| kernels) {
            let kernel = kernel.observed();
            if !all.contains(&kernel) {
                all.push(kernel);
            }
        }
        all
    }
}

impl Kernel {
    fn observed(self) -> ObservedKernel {
        ObservedKernel {
            phase: self.phase,
            op: self.op.to_owned(),
            m: self.m as u64,
            n: self.n as u64,
            k: self.k as u64,
            recipe: self.recipe,
        }
    }
}
