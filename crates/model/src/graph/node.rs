//! What is known of a node by its operation.

use super::{Node, Operation};

impl Node {
    /// Whether its value stays in binary32 where the storage format is narrower.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        match &self.operation {
            Operation::Linear(linear) => linear.wide,
            Operation::Route(routing) => routing.weights.are_wide(),
            _ => false,
        }
    }

    /// Whether what it leaves is binary32: it stays so ([`Self::is_wide`]), or a bias follows that rounds it.
    ///
    /// ```
    /// use mantissa_model::{Arch, synth::SynthSpec};
    ///
    /// let graph = SynthSpec::tiny(Arch::QWEN2, 0).config().graph();
    /// let named = |name| graph.nodes().find(|node| node.name == name).expect("a product");
    /// assert!(named("q_proj").leaves_binary32() && !named("o_proj").leaves_binary32());
    /// ```
    #[must_use]
    pub fn leaves_binary32(&self) -> bool {
        self.is_wide()
            || match &self.operation {
                Operation::Linear(linear) => linear.bias.is_some(),
                Operation::ExpertLinear(linear) => linear.biased,
                _ => false,
            }
    }
}
