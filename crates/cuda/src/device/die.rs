//! What a die has of clusters: heuristics read it, and dies of one name may differ, by which parts of them are switched
//! off.

use std::ffi::CString;
use std::mem;
use std::sync::Arc;

use cudarc::driver::result::{function, module};
use cudarc::driver::sys::{
    self, CUdevice_attribute, CUfunction, CUfunction_attribute, CUlaunchAttribute, CUlaunchAttributeID,
    CUlaunchConfig, CUmodule,
};
use cudarc::driver::{CudaContext, DriverError};

/// A kernel that does nothing: how many of its clusters fit is asked, and nothing runs.
const NOTHING: &str = ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry nothing() { ret; }\n";

/// The largest cluster that is asked about; Hopper's largest.
const LARGEST: u32 = 16;

/// For each size of a cluster from 1 to 16, the greatest number of clusters that are active at once where each block
/// has a multiprocessor for itself (`cudaOccupancyMaxActiveClusters`); empty before Hopper, which has none.
///
/// *Units:* clusters. *Source:* what cuBLASLt's heuristic reads of a device.
pub(super) fn active_clusters(context: &Arc<CudaContext>) -> Result<Vec<u32>, DriverError> {
    let major = context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    if major < 9 {
        return Ok(Vec::new());
    }
    context.bind_to_thread()?;
    // More than half of what a multiprocessor has, so that no two blocks share one.
    let shared =
        context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
    let module = Module::of(NOTHING)?;
    let kernel = module.function("nothing")?;
    for (attribute, value) in [
        (CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared),
        (CUfunction_attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1),
    ] {
        // SAFETY: the kernel is of a module that is alive.
        unsafe { function::set_function_attribute(kernel, attribute, value)? };
    }
    (1..=LARGEST).map(|size| active(kernel, size, shared.unsigned_abs())).collect()
}

/// Clusters of `size` blocks of `kernel` that fit at once, with `shared` bytes for each block.
fn active(kernel: CUfunction, size: u32, shared: u32) -> Result<u32, DriverError> {
    // SAFETY: both are plain data of C, for which zeros are valid.
    let (mut cluster, mut launch): (CUlaunchAttribute, CUlaunchConfig) = unsafe { mem::zeroed() };
    cluster.id = CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    cluster.value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: size, y: 1, z: 1 };
    (launch.gridDimX, launch.gridDimY, launch.gridDimZ) = (size, 1, 1);
    (launch.blockDimX, launch.blockDimY, launch.blockDimZ) = (128, 1, 1);
    launch.sharedMemBytes = shared;
    launch.attrs = &raw mut cluster;
    launch.numAttrs = 1;
    let mut clusters = 0;
    // SAFETY: the launch is described in full and is not made.
    unsafe { sys::cuOccupancyMaxActiveClusters(&raw mut clusters, kernel, &raw const launch).result()? };
    Ok(clusters.unsigned_abs())
}

/// A module that is unloaded in the end.
struct Module(CUmodule);

impl Module {
    fn of(text: &str) -> Result<Self, DriverError> {
        let text = CString::new(text).unwrap_or_default();
        // SAFETY: it is text that ends in a zero byte.
        unsafe { module::load_data(text.as_ptr().cast()) }.map(Self)
    }

    fn function(&self, name: &str) -> Result<CUfunction, DriverError> {
        // SAFETY: the module is alive.
        unsafe { module::get_function(self.0, CString::new(name).unwrap_or_default()) }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: it was loaded in `of`, and nothing of it runs.
        unsafe { _ = module::unload(self.0) };
    }
}
