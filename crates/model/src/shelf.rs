//! Entries of safetensors files brought under the names that a model's graph has, and parts of quantized matrices
//! brought together.
//!
//! Left out: which weights a model must have (`checkpoint`) and how one is decoded (`quantized`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::graph::Graph;
use crate::quantized::{Quantization, Scheme};
use crate::safetensors_header::TensorEntry;
use crate::stored::{Stored, split_experts};
use crate::tensor_list::weight_name;
use crate::weight::WeightDtype;

/// Most parts of a quantized matrix.
const MOST_PARTS: usize = 6;

/// What has been found in files so far.
pub(crate) struct Shelf {
    graph: Graph,
    scheme: Option<Scheme>,
    plain: BTreeMap<String, Stored>,
    /// Parts of quantized matrices by the matrix's name: file and entry.
    parts: BTreeMap<String, [Option<(usize, TensorEntry)>; MOST_PARTS]>,
    foreign: BTreeMap<String, (usize, String)>,
}

/// Everything that files hold.
pub(crate) struct Found {
    pub(crate) weights: BTreeMap<String, Stored>,
    /// Tensors of types that are not read: file and type.
    pub(crate) foreign: BTreeMap<String, (usize, String)>,
}

impl Shelf {
    /// An empty shelf for a model of `config`, which was read from `json`.
    pub(crate) fn new(config: &ModelConfig, json: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(json).unwrap_or_default();
        let scheme =
            json.get("quantization_config").and_then(|scheme| Scheme::read(scheme, config.torch_dtype));
        Self {
            graph: config.graph(),
            scheme: scheme.and_then(Result::ok),
            plain: BTreeMap::new(),
            parts: BTreeMap::new(),
            foreign: BTreeMap::new(),
        }
    }

    /// The layout of quantized matrices, if there are any.
    pub(crate) fn quantization(&self) -> Option<Quantization> {
        self.scheme.filter(|_| !self.parts.is_empty()).map(|scheme| scheme.quantization)
    }

    /// Adds one entry of file `number` under its name, or under its experts' names when it holds them all and the
    /// model's graph multiplies by each alone, or as a part of a quantized matrix.
    pub(crate) fn place(&mut self, file: &str, number: usize, entry: TensorEntry) -> Result<(), ModelError> {
        if let Some((matrix, part)) = self.scheme.and_then(|scheme| scheme.part_of(&entry)) {
            let name = entry.name.clone();
            let place = &mut self.parts.entry(matrix).or_default()[part];
            if place.replace((number, entry)).is_some() {
                return Err(ModelError::tensor(file, &name, "is also in another file"));
            }
            return Ok(());
        }
        let Some(dtype) = entry.float() else {
            self.foreign.insert(entry.name, (number, entry.dtype));
            return Ok(());
        };
        let dtype = WeightDtype::Plain(dtype);
        let stored = Stored {
            file: number,
            dtype,
            shape: entry.shape,
            range: entry.range,
            interleaved: None,
            quantized: None,
        };
        // transformers 5 holds routed experts under names of its own, those of a block in two tensors, and may store
        // them so.
        let of_block = entry.name.strip_prefix("model.layers.").and_then(|rest| rest.split_once(".mlp."));
        let of_block = of_block.and_then(|(layer, name)| {
            Some((layer.parse().ok().filter(|parsed: &usize| parsed.to_string() == layer)?, name))
        });
        let experts = |layer| self.graph.experts_of(layer).filter(|_| !self.graph.stacks(&entry.name));
        let mut name = entry.name.clone();
        match of_block {
            Some((layer, "experts.gate_up_proj")) if let Some([gate, up, _]) = experts(layer) => {
                return split_experts(file, &entry.name, &stored, layer, &[gate, up], &mut self.plain);
            }
            Some((layer, "experts.down_proj")) if let Some([.., down]) = experts(layer) => {
                return split_experts(file, &entry.name, &stored, layer, &[down], &mut self.plain);
            }
            Some((layer, "gate.weight")) => {
                if let Some(router) = self.graph.router_of(layer) {
                    name = weight_name(router, layer, 0);
                }
            }
            _ => {}
        }
        if self.plain.insert(name, stored).is_some() {
            return Err(ModelError::tensor(file, &entry.name, "is also in another file"));
        }
        Ok(())
    }

    /// Every weight found; `config` says the shapes of the quantized ones, and `bytes` gives a file by number.
    pub(crate) fn weights<'a>(
        mut self,
        folder: &str,
        config: &ModelConfig,
        bytes: &dyn Fn(usize) -> &'a [u8],
    ) -> Result<Found, ModelError> {
        let found = |weights| Found { weights, foreign: self.foreign };
        let Some(scheme) = self.scheme else { return Ok(found(self.plain)) };
        for spec in config.tensors() {
            let Some(parts) = self.parts.remove(&spec.name) else { continue };
            let decoder = scheme
                .check(&spec.name, &spec.shape, &parts, |file, entry| &bytes(file)[entry.range.clone()])
                .map_err(|(tensor, fault)| ModelError::tensor(folder, &tensor, fault))?;
            let dtype = WeightDtype::Plain(decoder.dtype());
            let quantized = Some(Box::new(decoder));
            let stored =
                Stored { file: 0, dtype, shape: spec.shape, range: 0..0, interleaved: None, quantized };
            if self.plain.insert(spec.name.clone(), stored).is_some() {
                return Err(ModelError::tensor(folder, &spec.name, "is stored twice, quantized and not"));
            }
        }
        match self.parts.keys().next() {
            Some(name) => {
                let fault = format!(
                    "quantized as {}, and the configuration asks for no such matrix",
                    scheme.quantization
                );
                Err(ModelError::tensor(folder, name, fault))
            }
            None => Ok(found(self.plain)),
        }
    }
}
