//! What of a pass is traced: sites, rows, kinds of pass.

use std::str::FromStr;

use mantissa_model::graph::Graph;
use mantissa_numerics::{Phase, Point, Site};

use crate::error::LabError;
use crate::setup::Layer;

/// What of a pass is traced.
///
/// Example: [`Tracing`](super::Tracing).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSpec {
    /// Points; `None` stands for every point of the model's graph.
    pub points: Option<Vec<Point>>,
    /// Blocks; `None` stands for all.
    pub layers: Option<Vec<Layer>>,
    /// Rows of the prefill. A decode step has one row.
    pub positions: Positions,
    /// Kinds of pass.
    pub phases: Vec<Phase>,
}

impl Default for TraceSpec {
    fn default() -> Self {
        let (positions, phases) = (Positions::FromEnd(vec![-1]), vec![Phase::Prefill, Phase::Decode]);
        Self { points: None, layers: None, positions, phases }
    }
}

impl TraceSpec {
    /// The sites of a model that are traced, in the order of computation.
    ///
    /// *Errors:* a layer or a point that the model does not have.
    ///
    /// ```
    /// use mantissa_lab::trace::TraceSpec;
    /// use mantissa_numerics::Point;
    /// # use mantissa_model::synth::{SynthSpec, write};
    /// # use mantissa_model::{Arch, Checkpoint};
    /// # let folder = tempfile::tempdir()?;
    /// # write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
    /// # let checkpoint = Checkpoint::open(folder.path())?;
    ///
    /// let graph = checkpoint.config().graph();
    /// let all = TraceSpec::default().sites(&graph)?;
    /// assert!(all.iter().any(|site| site.point == Point::Logits));
    /// assert!(all.iter().all(|site| site.point != Point::RouterTopk), "it has no router");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sites(&self, graph: &Graph) -> Result<Vec<Site>, LabError> {
        let blocks = graph.blocks.len();
        let layers = match &self.layers {
            None => (1..=u32::try_from(blocks).unwrap_or(u32::MAX)).collect(),
            Some(layers) => Layer::numbers(layers, blocks)?,
        };
        let points = self.points.as_deref().unwrap_or(&Point::ALL);
        let mut sites = Vec::new();
        for &point in points {
            let of_point = if point.has_layer() {
                layers.iter().map(|layer| Site::at(*layer, point)).collect()
            } else {
                vec![Site::outside(point)]
            };
            // A point that only some blocks have is traced where it is.
            let there =
                |site: &Site| graph.width(site.layer.map(|layer| layer.0 as usize - 1), point).is_some();
            let (there, absent): (Vec<Site>, Vec<Site>) = of_point.into_iter().partition(there);
            if let (true, true, Some(site)) = (self.points.is_some(), there.is_empty(), absent.first()) {
                return Err(LabError::SiteAbsent { site: *site });
            }
            sites.extend(there);
        }
        sites.sort_unstable();
        sites.dedup();
        Ok(sites)
    }
}

/// Rows of a prefill.
///
/// ```
/// use mantissa_lab::trace::Positions;
///
/// assert_eq!("all".parse(), Ok(Positions::All));
/// assert_eq!("-1,-3".parse(), Ok(Positions::FromEnd(vec![-3, -1])));
/// assert!("0".parse::<Positions>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// All of them.
    All,
    /// By their distance from the end, ascending and negative: −1 is the last of the prompt.
    FromEnd(Vec<i32>),
}

impl Positions {
    /// How long a prompt must be to have them.
    pub(super) fn reach(&self) -> usize {
        match self {
            Self::All => 0,
            Self::FromEnd(list) => list.first().map_or(0, |first| first.unsigned_abs() as usize),
        }
    }

    /// Whether the row of a position of a prompt is among them.
    pub(super) fn has(&self, position: usize, length: usize) -> bool {
        match self {
            Self::All => true,
            Self::FromEnd(list) => list.iter().any(|from_end| {
                usize::try_from(from_end.unsigned_abs()).is_ok_and(|back| position + back == length)
            }),
        }
    }
}

impl FromStr for Positions {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s == "all" {
            return Ok(Self::All);
        }
        let position = |word: &str| word.trim().parse().ok().filter(|position: &i32| *position < 0);
        let list: Option<Vec<i32>> = s.split(',').map(position).collect();
        let mut list = list.ok_or("use 'all', or count from the end: -1 is the last of the prompt")?;
        list.sort_unstable();
        list.dedup();
        Ok(Self::FromEnd(list))
    }
}
