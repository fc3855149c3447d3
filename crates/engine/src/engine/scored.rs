//! Logits of all positions of a prompt, handed over as they come.

use super::Engine;
use crate::cache::KvCache;
use crate::error::EngineError;
use crate::perturbation::Hooks;
use crate::tap::Tap;

impl Engine<'_> {
    /// [`Engine::prefill`] of the first sequence that also leaves logits of the positions before the `keep` last, as a
    /// program computes them that is asked for the log-probabilities of a prompt's own tokens. `each` gets a position
    /// and its logits, in order, and few are held at once.
    ///
    /// The head's products are those that vLLM makes of these positions; elsewhere they are the pass's own.
    ///
    /// *Errors:* as [`Engine::prefill`], and products that no recipe covers.
    ///
    /// ```
    /// # use mantissa_engine::{Attention, Catalogs, Engine, EngineSetup, Hardware, Isa, NoTap, QuantizedWeights};
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
    /// let engine = Engine::load(&checkpoint, setup)?;
    /// let (mut seen, ids) = (Vec::new(), [1, 2, 3]);
    /// let mut each = |position, logits: &[f32]| seen.push((position, logits.to_vec()));
    /// let last = engine.scored_prefill(&mut engine.new_cache(3), &ids, 1, 1, &mut NoTap, &mut each)?;
    /// let all = engine.prefill(&mut engine.new_cache(3), &ids, 1, 0, 3, &mut NoTap)?;
    /// assert_eq!(seen.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [0, 1]);
    /// assert_eq!([seen[0].1.clone(), seen[1].1.clone(), last].concat(), all);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scored_prefill(
        &self,
        cache: &mut KvCache,
        ids: &[u32],
        batch_size: usize,
        keep: usize,
        taps: &mut dyn Tap,
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<Vec<f32>, EngineError> {
        let hooks = &mut Hooks { taps, perturbation: None };
        self.prefill_hooked(cache, ids, [batch_size, 0, keep], Some(each), hooks)
    }
}
