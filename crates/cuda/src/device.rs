//! The device and its products, of bf16, f16 or binary32, with sums in binary32.
//!
//! Sizes are those of row-major matrices; cuBLAS is column-major and is given the transposed product. *Source of the
//! calls:* PyTorch 2.11, aten/src/ATen/cuda/CUDABlas.cpp and native/cuda/Blas.cpp, restated. For bf16 and f16 they are
//! the same but for the format: both leave cuBLAS's mode of mathematics as it is by default, which allows parts of a
//! sum to be reduced in the output's format.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use cudarc::cublas::sys::{cublasComputeType_t, cublasGemmAlgo_t, cublasHandle_t, cublasOperation_t};
use cudarc::cublaslt::result as lt_result;
use cudarc::cublaslt::sys::{self as lt, cublasLtHandle_t};
use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DevicePtrMut};
use mantissa_numerics::Dtype;

mod arguments;
mod batched;
mod die;
mod heuristic;
mod launch;

pub use heuristic::{Heuristic, Place};
pub use launch::{Launch, Launches};

use arguments::{ONE, ZERO, data_type, int, scalar};
use batched::BatchedCall;
use heuristic::{Plan, WORKSPACE, WORKSPACE_LT};

use crate::error::CudaError;

/// A GPU with handles of cuBLAS and cuBLASLt.
///
/// ```no_run
/// use mantissa_cuda::Device;
/// use mantissa_numerics::Dtype;
///
/// let device = Device::open()?;
/// println!("{} with cuBLAS {}", device.name()?, device.cublas()?);
/// let ones = [1.0_f32.to_bits(); 4];
/// let matrix = device.upload(Dtype::Bf16, &ones)?;
/// assert_eq!(device.download(&matrix, 0, 4)?, ones);
/// # Ok::<(), mantissa_cuda::CudaError>(())
/// ```
#[derive(Debug)]
pub struct Device {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    blas: cublasHandle_t,
    blas_lt: cublasLtHandle_t,
    workspace: CudaSlice<u8>,
}

/// A matrix on the device. Elements come and go as bits of binary32.
///
/// Example: [`Device`].
#[derive(Debug)]
pub struct Matrix {
    data: CudaSlice<u8>,
    dtype: Dtype,
}

impl Matrix {
    /// Elements.
    fn len(&self) -> usize {
        self.data.len() / self.dtype.size()
    }
}

fn packed(dtype: Dtype, bits: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(bits.len() * dtype.size());
    for bits in bits {
        dtype.encode(f32::from_bits(*bits), &mut bytes);
    }
    bytes
}

impl Device {
    /// The machine's first GPU.
    ///
    /// *Errors:* no driver, no cuBLAS, no GPU.
    pub fn open() -> Result<Self, CudaError> {
        // SAFETY: looking for a library runs its initializers, which for CUDA's own are harmless.
        let present = unsafe {
            [
                ("libcuda", cudarc::driver::sys::is_culib_present()),
                ("libcublas", cudarc::cublas::sys::is_culib_present()),
                ("libcublasLt", lt::is_culib_present()),
            ]
        };
        if let Some((library, _)) = present.into_iter().find(|(_, present)| !present) {
            return Err(CudaError::Missing(library));
        }
        let context = CudaContext::new(0)?;
        let stream = context.default_stream();
        let mut workspace = stream.alloc_zeros::<u8>(WORKSPACE)?;
        let blas = cudarc::cublas::result::create_handle()?;
        let blas_lt = cudarc::cublaslt::result::create_handle()?;
        // SAFETY: the handle is fresh, and the workspace lives as long as it.
        unsafe {
            let (at, _guard) = workspace.device_ptr_mut(&stream);
            cudarc::cublas::sys::cublasSetWorkspace_v2(blas, at as *mut c_void, WORKSPACE).result()?;
        }
        Ok(Self { context, stream, blas, blas_lt, workspace })
    }

    /// Where its heuristic can be asked, from any thread.
    #[must_use]
    pub fn place(&self) -> Place {
        // Nothing is read or written there: that a bias has an address decides.
        let bias = self.workspace.device_ptr(&self.stream).0;
        Place { context: Arc::clone(&self.context), bias }
    }

    /// The GPU's name.
    pub fn name(&self) -> Result<String, CudaError> {
        Ok(self.context.name()?)
    }

    /// Its multiprocessors.
    pub fn multiprocessors(&self) -> Result<u32, CudaError> {
        let count = self.context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        Ok(count.unsigned_abs())
    }

    /// How many clusters of 1, 2, … 16 blocks are active at once, each block on a multiprocessor of its own; empty
    /// before Hopper. Dies of one name may differ.
    pub fn active_clusters(&self) -> Result<Vec<u32>, CudaError> {
        Ok(die::active_clusters(&self.context)?)
    }

    /// Version of cuBLAS, `major.minor.patch`.
    pub fn cublas(&self) -> Result<String, CudaError> {
        let mut version = 0;
        // SAFETY: the handle is alive.
        unsafe { cudarc::cublas::sys::cublasGetVersion_v2(self.blas, &raw mut version).result()? };
        Ok(format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100))
    }

    /// CUDA version of the driver, `major.minor`.
    pub fn driver(&self) -> Result<String, CudaError> {
        let mut version = 0;
        // SAFETY: it writes one integer.
        unsafe { cudarc::driver::sys::cuDriverGetVersion(&raw mut version).result()? };
        Ok(format!("{}.{}", version / 1000, version % 1000 / 10))
    }

    /// Copies values to the device. *Shape:* values of the format.
    pub fn upload(&self, dtype: Dtype, bits: &[u32]) -> Result<Matrix, CudaError> {
        Ok(Matrix { data: self.stream.clone_htod(&packed(dtype, bits))?, dtype })
    }

    /// Overwrites elements from `at` on.
    pub fn overwrite(&self, matrix: &mut Matrix, at: usize, bits: &[u32]) -> Result<(), CudaError> {
        let (data, size) = (packed(matrix.dtype, bits), matrix.dtype.size());
        Ok(self.stream.memcpy_htod(&data, &mut matrix.data.slice_mut(at * size..at * size + data.len()))?)
    }

    /// A matrix of `length` elements, all of one value.
    pub fn filled(&self, dtype: Dtype, length: usize, bits: u32) -> Result<Matrix, CudaError> {
        let mut data = self.stream.alloc_zeros::<u8>(length * dtype.size())?;
        if bits != 0 {
            let pattern = packed(dtype, &[bits]);
            let (at, _guard) = data.device_ptr_mut(&self.stream);
            // SAFETY: the allocation has `length` elements of that size.
            unsafe {
                match pattern[..] {
                    [a, b] => {
                        cudarc::driver::sys::cuMemsetD16_v2(at, u16::from_le_bytes([a, b]), length)
                            .result()?;
                    }
                    _ => cudarc::driver::sys::cuMemsetD32_v2(at, bits, length).result()?,
                }
            }
        }
        Ok(Matrix { data, dtype })
    }

    /// Copies a run of elements back, once all work is done.
    pub fn download(&self, matrix: &Matrix, from: usize, count: usize) -> Result<Vec<u32>, CudaError> {
        let size = matrix.dtype.size();
        let bytes = self.stream.clone_dtoh(&matrix.data.slice(from * size..(from + count) * size))?;
        Ok((0..count).map(|at| matrix.dtype.decode(&bytes, at).to_bits()).collect())
    }

    /// `y = x · wᵀ`, as `torch.nn.functional.linear` without a bias: `cublasGemmEx`.
    ///
    /// *Shape:* `x` is `m × k`, `w` is `n × k`, `y` is `m × n`.
    ///
    /// # Panics
    /// When a matrix is smaller.
    pub fn linear(
        &self,
        [m, n, k]: [usize; 3],
        x: &Matrix,
        w: &Matrix,
        y: &mut Matrix,
    ) -> Result<(), CudaError> {
        assert!(x.len() >= m * k && w.len() >= n * k && y.len() >= m * n, "linear: shapes differ");
        let dtype = x.dtype;
        assert!(w.dtype == dtype && y.dtype == dtype, "linear: formats differ");
        let format = data_type(dtype);
        let [(x, _a), (w, _b)] = [x.data.device_ptr(&self.stream), w.data.device_ptr(&self.stream)];
        let (y, _c) = y.data.device_ptr_mut(&self.stream);
        // SAFETY: the pointers are of this device and cover the shapes, as asserted.
        unsafe {
            cudarc::cublas::result::gemm_ex(
                self.blas,
                cublasOperation_t::CUBLAS_OP_T,
                cublasOperation_t::CUBLAS_OP_N,
                int(n)?,
                int(m)?,
                int(k)?,
                scalar(&ONE),
                w as *const c_void,
                format,
                int(k)?,
                x as *const c_void,
                format,
                int(k)?,
                scalar(&ZERO),
                y as *mut c_void,
                format,
                int(n)?,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
            )?;
        }
        Ok(())
    }

    /// A product per matrix of a batch, as `torch.matmul` of three-dimensional tensors: `cublasGemmStridedBatchedEx` of
    /// bf16 and f16, `cublasSgemmStridedBatched` of binary32.
    ///
    /// *Shape:* `a` is `batch × m × k`; `b` is `batch × n × k` if `transposed` (queries by keys), else `batch × k × n`;
    /// `c` is `batch × m × n`.
    ///
    /// # Panics
    /// When a matrix is smaller.
    pub fn batched(
        &self,
        batch: usize,
        [m, n, k]: [usize; 3],
        transposed: bool,
        a: &Matrix,
        b: &Matrix,
        c: &mut Matrix,
    ) -> Result<(), CudaError> {
        let sizes = [a.len() / (m * k), b.len() / (n * k), c.len() / (m * n)];
        assert!(sizes.into_iter().all(|held| held >= batch), "batched: shapes differ");
        let dtype = a.dtype;
        assert!(b.dtype == dtype && c.dtype == dtype, "batched: formats differ");
        let [(a, _a), (b, _b)] = [a.data.device_ptr(&self.stream), b.data.device_ptr(&self.stream)];
        let (c, _c) = c.data.device_ptr_mut(&self.stream);
        // SAFETY: the pointers are of this device and cover the shapes, as asserted.
        unsafe { BatchedCall { dtype, batch, shape: [m, n, k], transposed }.make(self.blas, [a, b, c]) }
    }

    /// What cuBLASLt's heuristic names for `y = x · wᵀ (+ bias)` in a format: parts that `K` is split into, and, if
    /// matrices (`x`, `w`, bias, `y`) are given, the product itself, as PyTorch's `addmm` with a bias runs it.
    ///
    /// # Panics
    /// When a matrix is smaller.
    pub fn heuristic(
        &self,
        dtype: Dtype,
        shape: [usize; 3],
        run: Option<(&Matrix, &Matrix, &Matrix, &mut Matrix)>,
    ) -> Result<u32, CudaError> {
        let bias = run.as_ref().map(|(_, _, bias, _)| bias.data.device_ptr(&self.stream).0);
        let workspace = if bias.is_some() { WORKSPACE_LT } else { WORKSPACE };
        let plan = Plan::new(dtype, shape, bias, workspace)?;
        let found = plan.heuristic(self.blas_lt)?;
        let parts = heuristic::parts(&found)?;
        let Some((x, w, _, y)) = run else { return Ok(parts) };
        let [m, n, k] = shape;
        assert!(x.len() >= m * k && w.len() >= n * k && y.len() >= m * n, "shapes differ");
        assert!([x.dtype, w.dtype, y.dtype] == [dtype; 3], "formats differ");
        let [(x, _a), (w, _b)] = [x.data.device_ptr(&self.stream), w.data.device_ptr(&self.stream)];
        let (y, _c) = y.data.device_ptr_mut(&self.stream);
        let (at, _d) = self.workspace.device_ptr(&self.stream);
        // SAFETY: the pointers are of this device and cover the shapes, as asserted; the plan's parts are alive.
        unsafe {
            lt_result::matmul(
                self.blas_lt,
                plan.descriptor,
                scalar(&ONE),
                scalar(&ZERO),
                w as *const c_void,
                plan.w,
                x as *const c_void,
                plan.x,
                y as *const c_void,
                plan.y,
                y as *mut c_void,
                plan.y,
                &raw const found.algo,
                at as *mut c_void,
                workspace,
                ptr::null_mut(),
            )?;
        }
        Ok(parts)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the handles were created in `open`; nothing can be done about errors.
        unsafe {
            _ = cudarc::cublas::result::destroy_handle(self.blas);
            _ = cudarc::cublaslt::result::destroy_handle(self.blas_lt);
        }
    }
}
