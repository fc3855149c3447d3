//! Model families, one file each: how a family's configuration is read, and its forward pass as a [`Graph`].
//!
//! A new family is a file here and a line in [`FAMILIES`]. Left out: what families share (`parts`), keys that all
//! configurations have ([`crate::config_json`]), kernels.

mod deepseek_v2;
mod definition;
mod gemma2;
mod gemma3_text;
mod gpt_oss;
mod llama;
mod mistral;
mod mixtral;
mod olmo2;
mod parts;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_moe;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use definition::{Family, Windows};

use crate::arch::Arch;
use crate::config::ModelConfig;
use crate::graph::Graph;
use crate::tensor_list::TensorSpec;

/// Every family, in the order documentation lists them.
static FAMILIES: [&Family; 12] = [
    &llama::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &qwen3_moe::FAMILY,
    &mistral::FAMILY,
    &mixtral::FAMILY,
    &olmo2::FAMILY,
    &phi3::FAMILY,
    &gemma2::FAMILY,
    &gemma3_text::FAMILY,
    &gpt_oss::FAMILY,
    &deepseek_v2::FAMILY,
];

impl Arch {
    /// Every family.
    ///
    /// ```
    /// assert!(mantissa_model::Arch::all().any(|arch| arch.name() == "qwen3_moe"));
    /// ```
    pub fn all() -> impl Iterator<Item = Self> {
        FAMILIES.into_iter().map(|family| Self(family.name))
    }

    /// The family called `name`.
    ///
    /// ```
    /// # use mantissa_model::Arch;
    /// assert_eq!(Arch::named("llama"), Some(Arch::LLAMA));
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|arch| arch.name() == name)
    }

    /// The families for people, separated by commas.
    #[must_use]
    pub fn titles() -> String {
        let titles: Vec<&str> = FAMILIES.iter().map(|family| family.title).collect();
        titles.join(", ")
    }

    #[expect(clippy::panic, reason = "an Arch is only made from a family's name")]
    pub(crate) fn family(self) -> &'static Family {
        let found = FAMILIES.into_iter().find(|family| family.name == self.name());
        found.unwrap_or_else(|| panic!("no family '{}'", self.name()))
    }

    /// The family of a class or `model_type` of transformers.
    pub(crate) fn of_transformers(name: &str) -> Option<Self> {
        let found = FAMILIES.into_iter().find(|family| family.architecture == name || family.name == name);
        found.map(|family| Self(family.name))
    }

    /// The family of GGUF's `general.architecture`.
    pub(crate) fn of_gguf(name: &str) -> Option<Self> {
        FAMILIES.into_iter().find(|family| family.gguf == Some(name)).map(|family| Self(family.name))
    }

    /// The names of GGUF's architectures that are read.
    pub(crate) fn gguf_names() -> String {
        let names: Vec<&str> = FAMILIES.iter().filter_map(|family| family.gguf).collect();
        names.join(", ")
    }
}

impl ModelConfig {
    /// The forward pass.
    ///
    /// ```
    /// use mantissa_model::{Arch, synth::SynthSpec};
    ///
    /// let spec = SynthSpec::tiny(Arch::LLAMA, 0);
    /// assert_eq!(spec.config().graph().blocks.len(), 4);
    /// ```
    #[must_use]
    pub fn graph(&self) -> Graph {
        let mut graph = (self.arch.family().graph)(self);
        for kind in &mut graph.kinds {
            kind.nf4_block = self.nf4_block;
            kind.int4 = self.int4;
        }
        graph
    }

    /// The tensors of such a model in the order of a forward pass; lazy, a section at a time.
    pub fn tensors(&self) -> impl Iterator<Item = TensorSpec> + use<> {
        self.graph().into_tensors()
    }
}

impl Serialize for Arch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Arch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| serde::de::Error::custom(format!("no family '{name}'")))
    }
}
