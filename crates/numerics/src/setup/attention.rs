//! How attention is computed.

use super::value::words;

words! {
    /// How attention is computed.
    ///
    /// ```
    /// use mantissa_numerics::setup::Attention;
    ///
    /// // PyTorch chooses what `sdpa` runs on a GPU; two names force a choice. They and vLLM's mean nothing without
    /// // one.
    /// let forced = Attention::ALL.into_iter().filter(|one| !Attention::OWN.contains(one));
    /// assert_eq!(forced.map(Attention::name).collect::<Vec<_>>(), ["flash_attention_3", "sdpa_flash", "sdpa_math"]);
    /// ```
    pub enum Attention {
        /// Scores, softmax and probabilities materialized and rounded, as Hugging Face's `eager`.
        Eager = "eager",
        /// Tiled, exact softmax in binary32, one division at the end. On a GPU PyTorch's `scaled_dot_product_attention`
        /// left alone.
        Sdpa = "sdpa",
        /// Tiled, online softmax.
        FlashAttention2 = "flash_attention_2",
        /// FlashAttention 3 as vLLM runs it on Hopper.
        FlashAttention3 = "flash_attention_3",
        /// PyTorch's `scaled_dot_product_attention` on a GPU with its flash backend forced.
        SdpaFlash = "sdpa_flash",
        /// The same with its math backend forced.
        SdpaMath = "sdpa_math",
    }
}

impl Attention {
    /// Those that the engine's own recipes have; the others name kernels of a GPU.
    pub const OWN: [Self; 3] = [Self::Eager, Self::Sdpa, Self::FlashAttention2];
}
