//! The program that runs a model, and the ranks that it divides it among.

use super::value::words;

words! {
    /// The program whose kernels are meant.
    ///
    /// ```
    /// use mantissa_numerics::setup::Program;
    ///
    /// assert_eq!(Program::ALL.map(Program::name), ["transformers", "vllm-0.24"]);
    /// ```
    pub enum Program {
        /// Hugging Face's transformers; on a CPU this engine's own arithmetic.
        Transformers = "transformers",
        /// vLLM 0.24 in eager mode.
        Vllm024 = "vllm-0.24",
    }
}

words! {
    /// vLLM's `--linear-backend`: which kernel multiplies by packed weights.
    ///
    /// ```
    /// use mantissa_numerics::setup::LinearBackend;
    ///
    /// assert_eq!(LinearBackend::ALL.map(LinearBackend::name), ["auto", "machete", "marlin"]);
    /// ```
    pub enum LinearBackend {
        /// Its own choice: Machete where it takes the shape, else Marlin.
        Auto = "auto",
        /// Machete; shapes that it does not take are refused.
        Machete = "machete",
        /// Marlin.
        Marlin = "marlin",
    }
}

words! {
    /// Which of vLLM's model runners: their log-probabilities are added up in different orders.
    ///
    /// ```
    /// use mantissa_numerics::setup::ModelRunner;
    ///
    /// assert_eq!(ModelRunner::ALL.map(ModelRunner::name), ["auto", "v1", "v2"]);
    /// ```
    pub enum ModelRunner {
        /// The one that vLLM takes for the family, which a variable of the environment can change.
        Auto = "auto",
        /// Log-probabilities are PyTorch's.
        V1 = "v1",
        /// Log-probabilities are those of a Triton kernel.
        V2 = "v2",
    }
}

words! {
    /// How the sums of ranks are put together.
    ///
    /// ```
    /// use mantissa_numerics::setup::AllReduce;
    ///
    /// // What three ranks have for one output; beside 2^24 a single 1 is lost.
    /// let ranks = [16_777_216.0, 1.0, 1.0];
    /// let sum = |how, slice: usize| {
    ///     let first = if how == AllReduce::Ring { slice } else { 0 };
    ///     (0..3).map(|i| ranks[(first + i) % 3]).sum::<f32>()
    /// };
    /// // Around a ring, the sum depends on the slice that the output lies in.
    /// assert_eq!([0, 1, 2].map(|slice| sum(AllReduce::OneShot, slice)), [16_777_216.0; 3]);
    /// assert_eq!(sum(AllReduce::Ring, 1), 16_777_218.0);
    /// ```
    pub enum AllReduce {
        /// There is one rank, or it is left to the engine: NCCL's ring for transformers, its own kernels for vLLM.
        None = "none",
        /// NCCL's ring: each slice is summed in the order of the ranks from a first one of its own, rounded at each.
        Ring = "ring",
        /// NCCL's tree, within one machine a chain of ranks; rounded at each.
        Tree = "tree",
        /// vLLM's kernel for small tensors: all ranks in their order in binary32, rounded once.
        OneShot = "one_shot",
        /// vLLM's kernel for large tensors: the same from the rank that owns the slice.
        TwoShot = "two_shot",
        /// PyTorch's symmetric memory: all ranks in their order, rounded at each.
        SymmetricMemory = "symm_mem",
    }
}

/// The ranks of a setup.
///
/// ```
/// use mantissa_numerics::setup::Ranks;
///
/// assert!(Ranks::default().is_one() && !Ranks { tensor: 2, ..Ranks::default() }.is_one());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ranks {
    /// Ranks that share each layer.
    pub tensor: u32,
    /// Ranks that share the experts.
    pub expert: u32,
    /// How their sums are put together.
    pub all_reduce: AllReduce,
}

impl Default for Ranks {
    fn default() -> Self {
        Self { tensor: 1, expert: 1, all_reduce: AllReduce::None }
    }
}

impl Ranks {
    /// Whether there is one rank.
    #[must_use]
    pub const fn is_one(self) -> bool {
        self.tensor <= 1 && self.expert <= 1
    }
}
