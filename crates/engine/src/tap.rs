//! Taps: reading a site without changing it.

use mantissa_numerics::Dtype;
use mantissa_numerics::site::{Phase, Site};

/// Which row of a pass a line of a tensor belongs to.
///
/// Example: [`Tap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowId {
    /// Sequence of the batch, counted from 0.
    pub sequence: usize,
    /// Position in the sequence, counted from 0.
    pub position: usize,
}

/// A tensor at a site, as the pass computed it.
///
/// Example: [`Tap`].
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Where.
    pub site: Site,
    /// Kind of pass.
    pub phase: Phase,
    /// What each row is: those of the pass, in its order, or some of them.
    pub rows: &'a [RowId],
    /// Elements of a row.
    pub width: usize,
    /// Format that values are rounded to already: the storage dtype, or binary32 where the model keeps that.
    pub dtype: Dtype,
    /// *Shape:* `rows.len() × width`.
    pub data: &'a [f32],
}

/// Something that reads sites. It gets shared references, so it cannot change what it sees.
///
/// ```
/// use mantissa_engine::{Tap, View};
/// use mantissa_numerics::{Point, Site};
/// # use mantissa_engine::{Attention, Catalogs, Engine, EngineSetup, Hardware, Isa, QuantizedWeights};
/// # use mantissa_numerics::Dtype;
/// # use mantissa_model::synth::{SynthSpec, write};
/// # use mantissa_model::{Arch, Checkpoint};
/// # let folder = tempfile::tempdir()?;
/// # write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
/// # let checkpoint = Checkpoint::open(folder.path())?;
/// # let setup = EngineSetup {
/// #     serving: mantissa_engine::Serving::default(),
/// #     hardware: Hardware::Cpu,
/// #     dtype: Dtype::F32,
/// #     attention: Attention::Eager,
/// #     quantized: QuantizedWeights::Keep,
/// #     catalogs: Catalogs::default(),
/// #     context: 64,
/// #     threads: 1,
/// #     isa: Isa::detect(),
/// # };
///
/// /// Positions of which the first block's keys were seen.
/// struct Keys(Vec<usize>);
///
/// impl Tap for Keys {
///     fn wants(&self, site: Site) -> bool {
///         site == Site::at(1, Point::K)
///     }
///
///     fn tap(&mut self, view: View<'_>) {
///         assert_eq!(view.data.len(), view.rows.len() * view.width);
///         self.0.extend(view.rows.iter().map(|row| row.position));
///     }
/// }
///
/// let mut keys = Keys(Vec::new());
/// let engine = Engine::load(&checkpoint, setup)?;
/// engine.prefill(&mut engine.new_cache(3), &[1, 2, 3], 1, 0, 1, &mut keys)?;
/// assert_eq!(keys.0, [0, 1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Tap {
    /// Whether [`Tap::tap`] should be called for this site; asked once per site and pass.
    fn wants(&self, site: Site) -> bool;
    /// Whether [`Tap::tap`] reads this row of the sites it wants. The last block leaves out rows that nobody reads, so
    /// that a long prompt of which little is looked at costs little; a [`View`] may still have them.
    fn wants_row(&self, _row: RowId) -> bool {
        true
    }
    /// Reads a site.
    fn tap(&mut self, view: View<'_>);
}

/// Reads nothing.
///
/// Example: [`crate::Engine`].
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTap;

impl Tap for NoTap {
    fn wants(&self, _site: Site) -> bool {
        false
    }

    fn tap(&mut self, _view: View<'_>) {}
}
