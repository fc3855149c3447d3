//! Passes with something replaced or done otherwise: for drift.

use mantissa_model::graph::Graph;

use super::{Engine, Forced, ForcedSteps, rope_tables};
use crate::cache::KvCache;
use crate::error::EngineError;
use crate::perturbation::{Hooks, Perturbation};
use crate::tap::Tap;
use crate::variation::Variation;

impl Engine<'_> {
    /// Lets every later pass do something otherwise: `graph` in place of the model's, with the same nodes of the same
    /// widths in the same places, and `variation`.
    ///
    /// ```
    /// use mantissa_engine::{Angle, NoTap, Variation};
    /// # use mantissa_engine::{Attention, Catalogs, Engine, EngineSetup, Hardware, Isa, QuantizedWeights};
    /// # use mantissa_numerics::Dtype;
    /// # use mantissa_model::synth::{SynthSpec, write};
    /// # use mantissa_model::{Arch, Checkpoint};
    /// # let folder = tempfile::tempdir()?;
    /// # write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
    /// # let checkpoint = Checkpoint::open(folder.path())?;
    /// # let (hardware, attention, dtype) = (Hardware::Cpu, Attention::Eager, Dtype::F32);
    /// # let (quantized, catalogs) = (QuantizedWeights::Keep, Catalogs::default());
    /// # let (context, threads, isa) = (64, 1, Isa::detect());
    /// # let serving = mantissa_engine::Serving::default();
    /// # let setup = EngineSetup {
    /// #     serving, hardware, dtype, attention, quantized, catalogs, context, threads, isa,
    /// # };
    /// let mut engine = Engine::load(&checkpoint, setup)?;
    /// let graph = engine.graph().clone();
    /// let logits = |it: &Engine| it.prefill(&mut it.new_cache(3), &[1, 2, 3], 1, 0, 1, &mut NoTap).expect("fits");
    /// let plain = logits(&engine);
    /// assert_eq!(engine.angles(0, 0)[0], 1.0, "nothing is turned at position 0");
    /// engine.vary(graph.clone(), Variation { angle: Angle::Moved(1), ..Variation::default() });
    /// assert_ne!(logits(&engine), plain);
    /// engine.vary(graph, Variation::default());
    /// assert_eq!(logits(&engine), plain);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn vary(&mut self, graph: Graph, variation: Variation) {
        self.tables = rope_tables(&graph, &self.setup);
        (self.graph, self.variation) = (graph, variation);
    }

    /// [`Engine::prefill`] of the first sequence with what `perturbation` replaces; every row of the last block is
    /// computed.
    ///
    /// Example: [`Perturbation`].
    pub fn perturbed_prefill(
        &self,
        cache: &mut KvCache,
        ids: &[u32],
        batch_size: usize,
        keep: usize,
        taps: &mut dyn Tap,
        perturbation: &mut dyn Perturbation,
    ) -> Result<Vec<f32>, EngineError> {
        let hooks = &mut Hooks { taps, perturbation: Some(perturbation) };
        self.prefill_hooked(cache, ids, [batch_size, 0, keep], None, hooks)
    }

    /// [`Engine::forced`] with what `perturbation` replaces.
    ///
    /// Example: [`Perturbation`].
    pub fn perturbed_forced(
        &self,
        caches: &mut [KvCache],
        forced: &[Forced<'_>],
        taps: &mut dyn Tap,
        perturbation: &mut dyn Perturbation,
    ) -> Result<ForcedSteps, EngineError> {
        self.forced_hooked(caches, forced, &mut Hooks { taps, perturbation: Some(perturbation) })
    }

    /// Cosines, then sines, of a position in a rotary table of the graph, as rows are turned by them; empty where there
    /// is no such table or position.
    ///
    /// Example: [`Engine::vary`].
    #[must_use]
    pub fn angles(&self, table: usize, position: usize) -> &[f32] {
        let found = self.tables.get(table).filter(|_| position < self.setup.context);
        found.map_or(&[], |table| table.position(position))
    }
}
