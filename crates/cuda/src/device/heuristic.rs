//! cuBLASLt's heuristic, asked without running anything.

use std::num::NonZeroU16;
use std::ptr;
use std::sync::Arc;

use cudarc::cublas::sys::cublasOperation_t;
use cudarc::cublaslt::result as lt_result;
use cudarc::cublaslt::sys::{
    self as lt, cublasLtEpilogue_t, cublasLtHandle_t, cublasLtMatmulAlgoConfigAttributes_t,
    cublasLtMatmulDescAttributes_t as Attribute, cublasLtMatmulPreferenceAttributes_t as Preference,
};
use cudarc::driver::CudaContext;
use mantissa_engine::catalog::MOST_PARTS;
use mantissa_numerics::Dtype;

use super::arguments::long;
use crate::error::CudaError;

/// Workspace that PyTorch gives cuBLAS on Hopper.
pub(super) const WORKSPACE: usize = 32 << 20;

/// Workspace that PyTorch lets cuBLASLt have: what does not fit is not split.
pub(super) const WORKSPACE_LT: usize = 1 << 20;

/// A GPU whose heuristic is to be asked from several threads.
///
/// Example: [`Heuristic`].
#[derive(Debug, Clone)]
pub struct Place {
    pub(super) context: Arc<CudaContext>,
    pub(super) bias: u64,
}

/// cuBLASLt's heuristic in one thread.
///
/// ```no_run
/// use mantissa_cuda::{Device, Heuristic};
/// use mantissa_numerics::Dtype;
///
/// let place = Device::open()?.place();
/// let shape = [9, 3584, 18_944];
/// let asked = std::thread::spawn(move || Heuristic::new(&place)?.parts(Dtype::F16, shape, false));
/// println!("{} parts", asked.join().expect("a thread")?);
/// # Ok::<(), mantissa_cuda::CudaError>(())
/// ```
#[derive(Debug)]
pub struct Heuristic {
    handle: cublasLtHandle_t,
    place: Place,
}

impl Heuristic {
    /// For the thread that calls it.
    ///
    /// *Errors:* of the library.
    pub fn new(place: &Place) -> Result<Self, CudaError> {
        place.context.bind_to_thread()?;
        Ok(Self { handle: lt_result::create_handle()?, place: place.clone() })
    }

    /// The parts that `K` is split into for `y = x · wᵀ (+ bias)` in a format, `x` being `m × k` and `w` `n × k`, with
    /// the workspace that PyTorch gives each.
    ///
    /// *Errors:* a product for which the library has no kernel; more parts than a recipe has.
    pub fn parts(&self, dtype: Dtype, shape: [usize; 3], bias: bool) -> Result<NonZeroU16, CudaError> {
        let workspace = if bias { WORKSPACE_LT } else { WORKSPACE };
        let found =
            Plan::new(dtype, shape, bias.then_some(self.place.bias), workspace)?.heuristic(self.handle)?;
        let parts = parts(&found)?.max(1);
        let known = u16::try_from(parts).ok().filter(|parts| *parts <= MOST_PARTS).and_then(NonZeroU16::new);
        known.ok_or(CudaError::Parts(parts))
    }
}

impl Drop for Heuristic {
    fn drop(&mut self) {
        // SAFETY: the handle was created in `new`; nothing can be done about errors.
        unsafe { _ = lt_result::destroy_handle(self.handle) };
    }
}

/// The parts of `K` in an answer of the heuristic.
pub(super) fn parts(found: &lt::cublasLtMatmulHeuristicResult_t) -> Result<u32, CudaError> {
    let (mut parts, mut written) = (0_u32, 0_usize);
    // SAFETY: it writes four bytes.
    unsafe {
        lt::cublasLtMatmulAlgoConfigGetAttribute(
            &raw const found.algo,
            cublasLtMatmulAlgoConfigAttributes_t::CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
            ptr::from_mut(&mut parts).cast(),
            4,
            &raw mut written,
        )
        .result()?;
    }
    Ok(parts)
}

/// Descriptors of one product of cuBLASLt.
pub(super) struct Plan {
    pub(super) descriptor: lt::cublasLtMatmulDesc_t,
    pub(super) w: lt::cublasLtMatrixLayout_t,
    pub(super) x: lt::cublasLtMatrixLayout_t,
    pub(super) y: lt::cublasLtMatrixLayout_t,
    preference: lt::cublasLtMatmulPreference_t,
}

impl Plan {
    pub(super) fn new(
        dtype: Dtype,
        [m, n, k]: [usize; 3],
        bias: Option<u64>,
        workspace: usize,
    ) -> Result<Self, CudaError> {
        let format = match dtype {
            Dtype::F32 => lt::cudaDataType::CUDA_R_32F,
            Dtype::Bf16 => lt::cudaDataType::CUDA_R_16BF,
            Dtype::F16 => lt::cudaDataType::CUDA_R_16F,
        };
        let plan = Self {
            descriptor: lt_result::create_matmul_desc(
                lt::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                lt::cudaDataType::CUDA_R_32F,
            )?,
            w: lt_result::create_matrix_layout(format, k as u64, n as u64, long(k)?)?,
            x: lt_result::create_matrix_layout(format, k as u64, m as u64, long(k)?)?,
            y: lt_result::create_matrix_layout(format, n as u64, m as u64, long(n)?)?,
            preference: lt_result::create_matmul_pref()?,
        };
        plan.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &cublasOperation_t::CUBLAS_OP_T)?;
        plan.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &cublasOperation_t::CUBLAS_OP_N)?;
        if let Some(at) = bias {
            plan.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS)?;
            plan.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &at)?;
        }
        plan.prefer(Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace)?;
        for attribute in [
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            plan.prefer(attribute, &256_u32)?;
        }
        Ok(plan)
    }

    fn set<T: Copy>(&self, attribute: Attribute, value: &T) -> Result<(), CudaError> {
        // SAFETY: the descriptor is alive, and the value has its own size.
        unsafe {
            let value = ptr::from_ref(value).cast();
            Ok(lt_result::set_matmul_desc_attribute(self.descriptor, attribute, value, size_of::<T>())?)
        }
    }

    fn prefer<T: Copy>(&self, attribute: Preference, value: &T) -> Result<(), CudaError> {
        // SAFETY: as above.
        unsafe {
            let value = ptr::from_ref(value).cast();
            Ok(lt_result::set_matmul_pref_attribute(self.preference, attribute, value, size_of::<T>())?)
        }
    }

    pub(super) fn heuristic(
        &self,
        handle: cublasLtHandle_t,
    ) -> Result<lt::cublasLtMatmulHeuristicResult_t, CudaError> {
        // SAFETY: all descriptors are alive.
        unsafe {
            Ok(lt_result::get_matmul_algo_heuristic(
                handle,
                self.descriptor,
                self.w,
                self.x,
                self.y,
                self.y,
                self.preference,
            )?)
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: each was created in `new` and is not used again; nothing can be done about errors.
        unsafe {
            _ = lt_result::destroy_matmul_pref(self.preference);
            for layout in [self.w, self.x, self.y] {
                _ = lt_result::destroy_matrix_layout(layout);
            }
            _ = lt_result::destroy_matmul_desc(self.descriptor);
        }
    }
}
