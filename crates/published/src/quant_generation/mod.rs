//! Layout `quant_generation`: log-probabilities of generation under several quantization kernels, on one GPU.

pub(crate) mod definitions;
pub(crate) mod reader;

use std::path::Path;

use mantissa_evidence::Experiment;
use mantissa_evidence::error::Result;
use mantissa_numerics::Phase;

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::Sheet;
use crate::stated::StatedRepeats;
use reader::QuantGeneration;

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "quant_generation",
    holds: "log-probabilities of generation under several quantization kernels, on one GPU",
    signature: FileSignature::Keys(&[&["generations"], &["noise_floors"]]),
    read,
};

fn read(json: &[u8], origin: &Path) -> Result<Read> {
    let (file, warnings) = QuantGeneration::parse(json, origin)?;
    Ok(Read::new(file, warnings))
}

impl Statement for QuantGeneration {
    fn experiment(&self) -> Option<&Experiment> {
        Some(&self.experiment)
    }

    fn repeats(&self) -> Vec<StatedRepeats> {
        let both = self.file.noise_floors.iter().flat_map(|(setup, floor)| {
            let both = [(Phase::Prefill, floor.prefill), (Phase::Decode, floor.decode)];
            both.into_iter().filter_map(move |(phase, distance)| {
                Some(StatedRepeats {
                    setup: setup.clone(),
                    phase,
                    repetitions: None,
                    distances: vec![distance?],
                    place: format!("noise_floors.{setup}.{}", phase.name()),
                })
            })
        });
        both.collect()
    }

    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        definitions::sheet(&self.file)
    }
}
