//! The call for a product per matrix of a batch: stated once, whether it runs or is only asked about.

use std::ffi::c_void;
use std::ptr;

use cudarc::cublas::sys::{cublasComputeType_t, cublasGemmAlgo_t, cublasHandle_t, cublasOperation_t};
use mantissa_numerics::Dtype;

use super::arguments::{ONE, ZERO, data_type, int, long, scalar};
use super::layout::Layout;
use crate::error::CudaError;

/// A product per matrix of a batch, as `torch.matmul` of three-dimensional tensors asks for it:
/// `cublasGemmStridedBatchedEx` of 16 bits, `cublasSgemmStridedBatched` of binary32.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchedCall {
    pub(super) dtype: Dtype,
    pub(super) batch: usize,
    /// `m`, `n` and `k`.
    pub(super) shape: [usize; 3],
    pub(super) layout: Layout,
}

impl BatchedCall {
    /// Makes the call with the addresses of both factors and of the product.
    ///
    /// *Errors:* of the library; a size that it does not take.
    ///
    /// # Safety
    /// The handle is alive, and the addresses are of its device and cover the shapes, or the work is captured and never
    /// runs.
    pub(super) unsafe fn make(self, blas: cublasHandle_t, [a, b, c]: [u64; 3]) -> Result<(), CudaError> {
        let Self { dtype, batch, shape: [m, n, k], layout } = self;
        let Layout { transposed, shared, between } = layout;
        let plain = cublasOperation_t::CUBLAS_OP_N;
        let operation = if transposed { cublasOperation_t::CUBLAS_OP_T } else { plain };
        let leading = int(if transposed { k } else { n })?;
        let [rows, columns, depth, batch] = [int(n)?, int(m)?, int(k)?, int(batch)?];
        let apart = int(k + between)?;
        let [of_a, of_b, of_c] =
            [long(m * (k + between))?, long(if shared { 0 } else { n * k })?, long(m * n)?];
        if dtype == Dtype::F32 {
            // SAFETY: as the caller promises.
            unsafe {
                cudarc::cublas::result::sgemm_strided_batched(
                    blas,
                    operation,
                    plain,
                    rows,
                    columns,
                    depth,
                    ptr::from_ref(&ONE),
                    b as *const f32,
                    leading,
                    of_b,
                    a as *const f32,
                    apart,
                    of_a,
                    ptr::from_ref(&ZERO),
                    c as *mut f32,
                    rows,
                    of_c,
                    batch,
                )?;
            }
            return Ok(());
        }
        let format = data_type(dtype);
        // SAFETY: as the caller promises.
        unsafe {
            cudarc::cublas::result::gemm_strided_batched_ex(
                blas,
                operation,
                plain,
                rows,
                columns,
                depth,
                scalar(&ONE),
                b as *const c_void,
                format,
                leading,
                of_b,
                a as *const c_void,
                format,
                apart,
                of_a,
                scalar(&ZERO),
                c as *mut c_void,
                format,
                rows,
                of_c,
                batch,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
            )?;
        }
        Ok(())
    }
}
