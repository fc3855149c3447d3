//! What a record is asked for: setups as a grid, and the signals to keep.
//!
//! Left out: where the model and the documents are found (the caller opens them).

use std::fmt;
use std::str::FromStr;

use mantissa_engine::{Catalogs, EngineSetup, Isa};
use mantissa_model::Checkpoint;
use mantissa_numerics::setup::{Axis, ModelRunner, Padding, Value};
use mantissa_numerics::{Generation, LayerIdx, Point, Setup, Site};
use serde::{Deserialize, Serialize};

use crate::catalog_use;
use crate::error::LabError;
use crate::prompt::PromptSpec;
use crate::uncovered::{Unreadable, uncovered};

/// A layer by number or by place.
///
/// ```
/// use mantissa_lab::Layer;
///
/// assert_eq!("last".parse(), Ok(Layer::Last));
/// assert_eq!("12".parse(), Ok(Layer::Number(12)));
/// assert!("0".parse::<Layer>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    /// A block, counted from 1.
    Number(u32),
    /// The last block, whichever that is.
    Last,
}

impl Layer {
    /// Whether a model of so many blocks has it.
    fn is_of(self, layers: usize) -> bool {
        let Self::Number(number) = self else { return layers > 0 };
        number > 0 && usize::try_from(number).is_ok_and(|number| number <= layers)
    }

    /// The numbers of blocks of a model that has `layers` of them, ascending, without repeats.
    pub(crate) fn numbers(chosen: &[Self], layers: usize) -> Result<Vec<u32>, LabError> {
        let last = u32::try_from(layers).unwrap_or(u32::MAX);
        let number = |layer: &Self| match *layer {
            Self::Last => Ok(last),
            Self::Number(number) if layer.is_of(layers) => Ok(number),
            Self::Number(layer) => Err(LabError::LayerAbsent { layer, layers: last }),
        };
        let mut numbers = chosen.iter().map(number).collect::<Result<Vec<u32>, _>>()?;
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }
}

impl FromStr for Layer {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s.parse() {
            Ok(0) => Err("layer 0 is the embedding; layers are counted from 1, or 'last'".to_owned()),
            Ok(number) => Ok(Self::Number(number)),
            Err(_) if s == "last" => Ok(Self::Last),
            Err(_) => Err(format!("unknown layer '{s}': use numbers from 1, or 'last'")),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Last => f.write_str("last"),
        }
    }
}

/// Which signals to keep.
///
/// ```
/// use mantissa_lab::{LabError, Layer, SignalSpec};
/// use mantissa_numerics::{Point, Site};
///
/// let spec = SignalSpec { layers: Some(vec![Layer::Last, Layer::Number(2)]), ..SignalSpec::default() };
/// assert_eq!((spec.layer_numbers(30)?, spec.reach()?), (vec![2, 30], 3));
/// assert!(spec.sites(30)?.contains(&Site::at(30, Point::K)));
/// assert!(matches!(spec.sites(1), Err(LabError::LayerAbsent { layer: 2, layers: 1 })));
/// # Ok::<(), LabError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSpec {
    /// Blocks whose output and keys are kept. `None` stands for 1, 2, 4, 12 and the last, as far as the model has them.
    pub layers: Option<Vec<Layer>>,
    /// Positions relative to the end of the sequence, ascending and negative.
    pub positions: Vec<i32>,
    /// Points to keep besides `x_out`, `k` and `final_norm`.
    pub points: Vec<Point>,
    /// Candidates per position.
    pub top_k: usize,
}

impl Default for SignalSpec {
    fn default() -> Self {
        Self { layers: None, positions: vec![-3, -2, -1], points: Vec::new(), top_k: 10 }
    }
}

impl SignalSpec {
    /// The blocks to keep, ascending, without repeats.
    pub fn layer_numbers(&self, layers: usize) -> Result<Vec<u32>, LabError> {
        let usual = [1, 2, 4, 12].map(Layer::Number).into_iter().filter(|layer| layer.is_of(layers));
        match &self.layers {
            None => Layer::numbers(&usual.chain([Layer::Last]).collect::<Vec<_>>(), layers),
            Some(chosen) => Layer::numbers(chosen, layers),
        }
    }

    /// Every site to keep.
    pub fn sites(&self, layers: usize) -> Result<Vec<Site>, LabError> {
        let numbers = self.layer_numbers(layers)?;
        let mut sites: Vec<Site> = vec![Site::outside(Point::FinalNorm)];
        for point in [Point::XOut, Point::K].into_iter().chain(self.points.iter().copied()) {
            if point.has_layer() {
                sites.extend(numbers.iter().map(|n| Site { layer: Some(LayerIdx(*n)), point }));
            } else {
                sites.push(Site::outside(point));
            }
        }
        sites.sort_unstable();
        sites.dedup();
        Ok(sites)
    }

    /// How many positions before the end are needed.
    pub fn reach(&self) -> Result<usize, LabError> {
        let ascending = self.positions.is_sorted_by(|a, b| a < b);
        match self.positions.first() {
            Some(first) if ascending && self.positions.iter().all(|p| *p < 0) => {
                Ok(usize::try_from(first.unsigned_abs()).unwrap_or(usize::MAX))
            }
            _ => Err(LabError::Positions { positions: format!("{:?}", self.positions) }),
        }
    }
}

/// Everything that decides the bytes of a record, besides the model and the documents.
///
/// Example: [`crate::Recorder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordSpec {
    /// Name of the model for people; its weights are identified by digest.
    pub model: String,
    /// Prompts to cut.
    pub prompt: PromptSpec,
    /// The setup of each configuration.
    pub cells: Vec<Setup>,
    /// Decode steps.
    pub decode_steps: usize,
    /// Repetitions of each configuration.
    pub repetitions: usize,
    /// Tokens to force instead of a prompt's own greedy ones: a list for all prompts, or one for each.
    pub forced: Option<Vec<Vec<u32>>>,
    /// Signals to keep.
    pub signals: SignalSpec,
    /// Settings that act on the choice of tokens.
    #[serde(default, skip_serializing_if = "Generation::is_plain")]
    pub generation: Generation,
}

impl RecordSpec {
    /// Checks what can be checked without running anything.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<(), LabError> {
        let config = checkpoint.config();
        let graph = config.graph();
        for site in self.signals.sites(config.num_hidden_layers)? {
            let layer = site.layer.map(|LayerIdx(layer)| layer as usize - 1);
            if graph.width(layer, site.point).is_none() {
                return Err(LabError::SiteAbsent { site });
            }
        }
        self.signals.reach()?;
        for cell in &self.cells {
            uncovered(cell).map_err(|Unreadable { what, remedy }| LabError::Uncovered { what, remedy })?;
        }
        if let Some(what) = self.generation.not_computed() {
            let what = format!("tokens cannot be chosen so: {what}");
            return Err(LabError::Uncovered { what, remedy: "leave it out, or force the tokens".to_owned() });
        }
        let padded = self.cells.iter().any(|cell| cell.padding != Padding::None);
        if padded && self.forced.is_none() && self.generation.reads_the_prompt() {
            let what = format!("{} beside padding: transformers counts its tokens too", self.generation);
            let remedy = "record without padding, or with --no-generation-config".to_owned();
            return Err(LabError::Uncovered { what, remedy });
        }
        let nothing = |what| Err(LabError::Nothing { what });
        if self.cells.is_empty() || self.cells.iter().any(|cell| cell.batch_size == 0) {
            return nothing("batch size");
        }
        if self.repetitions == 0 {
            return nothing("number of repetitions");
        }
        if self.signals.top_k == 0 || self.signals.top_k > checkpoint.config().vocab_size {
            return nothing("number of logprobs");
        }
        let vocabulary = checkpoint.config().vocab_size;
        for (index, forced) in self.forced.iter().flatten().enumerate() {
            if forced.len() != self.decode_steps {
                return Err(self.forced_length(index, forced.len()));
            }
            if let Some(index) = forced.iter().position(|id| *id as usize >= vocabulary) {
                return Err(LabError::ForcedToken { token: forced[index], index, vocabulary });
            }
        }
        if self.forced.as_ref().is_some_and(Vec::is_empty) {
            return nothing("list of forced tokens");
        }
        Ok(())
    }

    /// The fault of a list of forced tokens that has not one for each step.
    fn forced_length(&self, index: usize, tokens: usize) -> LabError {
        let lengths = || self.forced.iter().flatten().map(Vec::len);
        let (least, most) = (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0));
        let remedy = if least == most {
            "give one token per step".to_owned()
        } else {
            let count = |length: usize| lengths().filter(|each| *each == length).count();
            format!(
                "all lists must have the same length, and theirs are {least} ({}) to {most} ({})",
                count(least),
                count(most)
            )
        };
        LabError::ForcedLength {
            list: index + 1,
            lists: lengths().count(),
            remedy,
            tokens,
            steps: self.decode_steps,
        }
    }

    /// The tokens that are forced on a reference.
    pub(crate) fn forced_on(&self, reference: usize) -> Option<&[u32]> {
        let lists = self.forced.as_ref()?;
        lists.get(if lists.len() == 1 { 0 } else { reference }).map(Vec::as_slice)
    }

    /// The axes that are not the same in all configurations, in the order of the table.
    #[must_use]
    pub fn varied(&self) -> Vec<Axis> {
        let varies = |axis: &Axis| self.cells.windows(2).any(|pair| pair[0].get(*axis) != pair[1].get(*axis));
        Axis::ALL.into_iter().filter(varies).collect()
    }
}

/// Every combination of one value from each list, on top of `setup`; the first list varies fastest.
///
/// ```
/// use mantissa_numerics::Setup;
/// use mantissa_numerics::setup::Axis;
///
/// let sizes = ["1", "2"].map(|n| Axis::BatchSize.parse(n).unwrap()).to_vec();
/// let attentions = ["eager", "sdpa"].map(|name| Axis::Attention.parse(name).unwrap()).to_vec();
/// let names: Vec<String> = mantissa_lab::setup::grid(Setup::default(), &[sizes, attentions])
///     .iter()
///     .map(ToString::to_string)
///     .collect();
/// assert_eq!(names, ["cpu_bs1_eager_bf16", "cpu_bs2_eager_bf16", "cpu_bs1_sdpa_bf16", "cpu_bs2_sdpa_bf16"]);
/// ```
#[must_use]
pub fn grid(setup: Setup, lists: &[Vec<Value>]) -> Vec<Setup> {
    lists.iter().fold(vec![setup], |grid, values| {
        values.iter().flat_map(|value| grid.iter().map(|setup| setup.with(*value))).collect()
    })
}

/// Where a record runs: nothing here can change a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Threads.
    pub threads: usize,
    /// Instruction set.
    pub isa: Isa,
}

/// What of a setup an engine is loaded for: batch size and padding belong to each pass.
pub(crate) const fn of_engine(setup: Setup) -> Setup {
    Setup { batch_size: 1, padding: Padding::None, ..setup }
}

/// What of a setup the passes of a replay are computed for: its log-probabilities are computed beside them.
pub(crate) const fn of_passes(setup: Setup) -> Setup {
    Setup { model_runner: ModelRunner::Auto, ..of_engine(setup) }
}

impl Machine {
    /// The engine that computes `setup` here by what `catalogs` know, for sequences of up to `context` positions.
    ///
    /// ```
    /// use mantissa_numerics::Setup;
    ///
    /// let machine = mantissa_lab::Machine { threads: 1, isa: mantissa_engine::Isa::Scalar };
    /// let catalogs = mantissa_engine::Catalogs::built_in();
    /// assert_eq!(machine.engine(&Setup::default(), 512, catalogs).context, 512);
    /// ```
    #[must_use]
    pub fn engine(self, setup: &Setup, context: usize, catalogs: &Catalogs) -> EngineSetup {
        EngineSetup {
            serving: catalog_use::serving(setup),
            hardware: setup.hardware,
            dtype: setup.dtype,
            attention: setup.attention,
            quantized: setup.quantization,
            catalogs: catalogs.clone(),
            context,
            threads: self.threads,
            isa: self.isa,
        }
    }
}
