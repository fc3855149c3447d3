//! What is run at once: rows, the steps they belong to, and the plan of each step.

use std::ops::Range;

use mantissa_model::graph::Node;
use mantissa_numerics::recipe::{KernelRecipe, MatmulRecipe, ObservedKernel};
use mantissa_numerics::site::{Phase, Site};

use crate::backend::Places;
use crate::dispatch::Planned;
use crate::error::EngineError;
use crate::plan::{PassShape, Plan};
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

/// Some rows of a pass, in its order.
pub(crate) struct Selection {
    /// Places of the rows in the pass.
    pub places: Vec<usize>,
    rows: Vec<RowId>,
    caches: Vec<usize>,
    sequences: Vec<usize>,
    steps: Vec<Step>,
}

impl Selection {
    /// The rows of `pass` at the places that `keep` names.
    pub(crate) fn of(pass: &Pass<'_>, keep: impl Fn(usize) -> bool) -> Self {
        let mut steps = Vec::new();
        let mut places = Vec::new();
        for step in pass.steps {
            let first = places.len();
            places.extend(step.rows.clone().filter(|place| keep(*place)));
            if places.len() > first {
                steps.push(Step { plan: step.plan, rows: first..places.len() });
            }
        }
        let rows = places.iter().map(|place| pass.rows[*place]).collect();
        let caches = places.iter().map(|place| pass.caches[*place]).collect();
        let sequences = places.iter().map(|place| pass.sequences[*place]).collect();
        Self { places, rows, caches, sequences, steps }
    }

    /// Them as a pass, by the same plans.
    pub(crate) fn pass<'s>(&'s self, whole: &Pass<'s>) -> Pass<'s> {
        Pass {
            rows: &self.rows,
            caches: &self.caches,
            sequences: &self.sequences,
            steps: &self.steps,
            plans: whole.plans,
        }
    }
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

    /// Where taps see what a node of this section leaves.
    pub(crate) fn site(self, node: &Node) -> Option<Site> {
        let point = node.site?;
        Some(match self {
            Self::Block { layer, .. } => Site::at(u32::try_from(layer + 1).unwrap_or(u32::MAX), point),
            Self::Stem | Self::Head => Site::outside(point),
        })
    }

    /// Where the section stands in the order of a pass.
    pub(crate) fn order(self) -> usize {
        match self {
            Self::Stem => 0,
            Self::Block { layer, .. } => layer + 1,
            Self::Head => usize::MAX,
        }
    }

    /// What `plan` says of this section.
    pub(crate) fn planned(self, plan: &Plan) -> &[Option<Planned>] {
        match self {
            Self::Stem => &plan.stem,
            Self::Block { layer: 0, .. } => &plan.first,
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
    /// Where `rows` stand in the tensors of their passes, if `recipe` asks for it.
    pub(crate) fn places(&self, rows: &Range<usize>, recipe: MatmulRecipe) -> Places {
        if !recipe.depends_on_place() {
            return Places::ANYWHERE;
        }
        let step = self.steps.iter().find(|step| step.rows.start <= rows.start && rows.start < step.rows.end);
        let shape = step.map(|step| self.plans[step.plan].shape);
        let (fed, cached) = shape.map_or((1, 0), |shape| (shape.positions, shape.keys - shape.positions));
        let number = |row: &RowId| match self.phase() {
            Phase::Prefill => row.sequence * fed + (row.position - cached),
            Phase::Decode => row.sequence,
        };
        Places {
            rows: self.rows[rows.clone()].iter().map(number).collect(),
            of: shape.map_or(0, PassShape::rows),
        }
    }

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

/// Kernels that ran, plan by plan: what the backend reports, whatever was planned.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    plans: Vec<(usize, Vec<Noted>)>,
    /// What was found while rows were computed that no recipe covers: nothing that follows it is a result.
    pub refused: Option<EngineError>,
}

/// A kernel, and the first section and node of a pass that ran it. Parts of a pass may run in another order.
#[derive(Debug)]
struct Noted {
    first: [usize; 2],
    kernel: Kernel,
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
        place: [usize; 2],
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
        match kernels.iter_mut().find(|noted| noted.kernel == kernel) {
            Some(noted) => noted.first = noted.first.min(place),
            None => kernels.push(Noted { first: place, kernel }),
        }
    }

    /// What ran for the steps of a plan, in the order of a pass.
    pub(crate) fn of(&self, plan: usize) -> Vec<ObservedKernel> {
        let found = self.plans.iter().find(|(known, _)| *known == plan);
        let mut noted: Vec<&Noted> = found.map_or_else(Vec::new, |(_, kernels)| kernels.iter().collect());
        noted.sort_by_key(|noted| noted.first);
        noted.into_iter().map(|noted| noted.kernel.observed()).collect()
    }

    /// What ran for any step, each kernel once.
    pub(crate) fn all(&self) -> Vec<ObservedKernel> {
        let mut all: Vec<ObservedKernel> = Vec::new();
        for kernel in self.plans.iter().flat_map(|(plan, _)| self.of(*plan)) {
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
