//! What this machine's GPU is to a heuristic, whether a built-in catalog is of such a one, and whether its libraries do
//! what that states.

use std::io;

use mantissa_cuda::catalog::Compared;
use mantissa_cuda::{CudaError, Device};
use mantissa_engine::catalog::Origin;
use mantissa_engine::{Catalogs, Hardware};
use serde::Serialize;

use crate::terminal::{Page, Report};

#[derive(Debug, Serialize)]
pub(super) struct Die {
    #[serde(flatten)]
    origin: Origin,
    /// What `--hardware` calls it; none where no built-in catalog is of such a GPU.
    hardware: Option<&'static str>,
    /// What random shapes gave, if any were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compared: Option<Comparison>,
}

/// Shapes that were as the catalog states, and all that were compared.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    products_bit_for_bit: [usize; 2],
    parts_named: [usize; 2],
    kernels_launched: [usize; 2],
    different: Vec<String>,
}

impl From<Compared> for Comparison {
    fn from(found: Compared) -> Self {
        let Compared { products, parts, launches, different } = found;
        Self { products_bit_for_bit: products, parts_named: parts, kernels_launched: launches, different }
    }
}

impl Die {
    pub(super) fn of(device: &Device) -> Result<Self, CudaError> {
        let origin = Origin {
            gpu: device.name()?,
            multiprocessors: device.multiprocessors()?,
            active_clusters: device.active_clusters()?,
            cublas: device.cublas()?,
            driver: device.driver()?,
            date: String::new(),
        };
        let hardware = Catalogs::built_in().hardware_of(&origin).map(Hardware::name);
        Ok(Self { origin, hardware, compared: None })
    }

    /// The hardware that a built-in catalog is of.
    pub(super) fn hardware(&self) -> Option<Hardware> {
        Catalogs::built_in().hardware_of(&self.origin)
    }

    /// Whether a shape was not as the catalog states.
    pub(super) fn is_other(&self) -> bool {
        self.compared.as_ref().is_some_and(|found| !found.different.is_empty())
    }
}

impl Report for Die {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { origin, hardware, compared } = self;
        page.line(&format!("{}, cuBLAS {}, driver {}", origin.die(), origin.cublas, origin.driver))?;
        page.line(&match hardware {
            Some(hardware) => format!("built-in catalogs are of such a GPU: --hardware {hardware}"),
            None => "no built-in catalog is of such a GPU; `mantissa catalog build` measures one".to_owned(),
        })?;
        let Some(found) = compared else { return Ok(()) };
        for ([as_stated, all], what) in [
            (found.products_bit_for_bit, "products with weights have every bit of their recipe"),
            (found.parts_named, "sums are cut as stated, by cuBLASLt's heuristic"),
            (found.kernels_launched, "products of attention launch the kernel stated"),
        ] {
            page.line(&format!("{as_stated} of {all} {what}"))?;
        }
        for one in found.different.iter().take(40) {
            page.line(&format!("  {one}"))?;
        }
        Ok(())
    }
}
