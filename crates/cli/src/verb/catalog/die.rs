//! What this machine's GPU is to a heuristic, and whether a built-in catalog is of such a one.

use std::io;

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
        Ok(Self { origin, hardware })
    }
}

impl Report for Die {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { origin, hardware } = self;
        page.line(&format!("{}, cuBLAS {}, driver {}", origin.die(), origin.cublas, origin.driver))?;
        page.line(&match hardware {
            Some(hardware) => format!("built-in catalogs are of such a GPU: --hardware {hardware}"),
            None => "no built-in catalog is of such a GPU; `mantissa catalog build` measures one".to_owned(),
        })
    }
}
