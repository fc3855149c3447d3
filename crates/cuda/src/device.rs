//! The device and its products, all of bf16 with sums in binary32.
//!
//! Sizes are those of row-major matrices; cuBLAS is column-major and is given the transposed product.
//! *Source of the calls:* PyTorch 2.11, aten/src/ATen/cuda/CUDABlas.cpp and native/cuda/Blas.cpp, restated.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use cudarc::cublas::sys::{
    cublasComputeType_t, cublasGemmAlgo_t, cublasHandle_t, cublasOperation_t, cudaDataType,
};
use cudarc::cublaslt::result as lt_result;
use cudarc::cublaslt::sys::{
    self as lt, cublasLtEpilogue_t, cublasLtHandle_t, cublasLtMatmulAlgoConfigAttributes_t,
    cublasLtMatmulDescAttributes_t as Attribute, cublasLtMatmulPreferenceAttributes_t as Preference,
};
use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DevicePtrMut};
use mantissa_numerics::Dtype;

/// Workspace that PyTorch gives cuBLAS on Hopper.
const WORKSPACE: usize = 32 << 20;

/// Workspace that PyTorch lets cuBLASLt have: what does not fit is not split.
const WORKSPACE_LT: usize = 1 << 20;

/// Why there is no GPU, or what it refused.
///
/// ```
/// use mantissa_cuda::{CudaError, Device};
///
/// // A machine without a GPU is told what it lacks.
/// if let Err(error @ CudaError::Missing(_)) = Device::open() {
///     assert!(error.to_string().contains("run on a machine with an NVIDIA driver"), "{error}");
/// }
/// ```
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// A library is missing.
    #[error(
        "{0} was not found; run on a machine with an NVIDIA driver and CUDA 13, and put the folder of the library into LD_LIBRARY_PATH"
    )]
    Missing(&'static str),
    /// The driver refused.
    #[error("CUDA: {0}")]
    Driver(#[from] cudarc::driver::DriverError),
    /// cuBLAS refused.
    #[error("cuBLAS: {0:?}")]
    Blas(cudarc::cublas::result::CublasError),
    /// cuBLASLt refused.
    #[error("cuBLASLt: {0:?}")]
    BlasLt(cudarc::cublaslt::result::CublasError),
    /// A matrix is too large for the library's sizes.
    #[error("a matrix of {0} elements is too large for cuBLAS")]
    Size(usize),
}

impl From<cudarc::cublas::result::CublasError> for CudaError {
    fn from(error: cudarc::cublas::result::CublasError) -> Self {
        Self::Blas(error)
    }
}

impl From<cudarc::cublaslt::result::CublasError> for CudaError {
    fn from(error: cudarc::cublaslt::result::CublasError) -> Self {
        Self::BlasLt(error)
    }
}

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

/// A matrix of bf16 or binary32 on the device. Elements come and go as bits of binary32.
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
    match dtype {
        Dtype::F32 => bits.iter().flat_map(|bits| bits.to_le_bytes()).collect(),
        Dtype::Bf16 => bits.iter().flat_map(|bits| bits.to_le_bytes().into_iter().skip(2)).collect(),
        Dtype::F16 => unreachable!("products of f16 are not measured"),
    }
}

fn int(x: usize) -> Result<c_int, CudaError> {
    c_int::try_from(x).map_err(|_| CudaError::Size(x))
}

fn long(x: usize) -> Result<i64, CudaError> {
    i64::try_from(x).map_err(|_| CudaError::Size(x))
}

const BF16: cudaDataType = cudaDataType::CUDA_R_16BF;
const ONE: f32 = 1.0;
const ZERO: f32 = 0.0;

const fn scalar(x: &'static f32) -> *const c_void {
    ptr::from_ref(x).cast()
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

    /// The GPU's name.
    pub fn name(&self) -> Result<String, CudaError> {
        Ok(self.context.name()?)
    }

    /// Its multiprocessors.
    pub fn multiprocessors(&self) -> Result<u32, CudaError> {
        let count = self.context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        Ok(count.unsigned_abs())
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

    /// Copies values to the device.
    ///
    /// # Panics
    /// When `dtype` is neither bf16 nor binary32; so below.
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
        Ok(match matrix.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect(),
            _ => bytes.as_chunks().0.iter().map(|b| u32::from(u16::from_le_bytes(*b)) << 16).collect(),
        })
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
                BF16,
                int(k)?,
                x as *const c_void,
                BF16,
                int(k)?,
                scalar(&ZERO),
                y as *mut c_void,
                BF16,
                int(n)?,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
            )?;
        }
        Ok(())
    }

    /// A product per matrix of a batch, as `torch.matmul` of three-dimensional tensors: `cublasGemmStridedBatchedEx` of
    /// bf16, `cublasSgemmStridedBatched` of binary32.
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
        let operation =
            if transposed { cublasOperation_t::CUBLAS_OP_T } else { cublasOperation_t::CUBLAS_OP_N };
        let leading = int(if transposed { k } else { n })?;
        let compute = cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let algorithm = cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP;
        let plain = cublasOperation_t::CUBLAS_OP_N;
        let [rows, columns, depth] = [int(n)?, int(m)?, int(k)?];
        let [of_a, of_b, of_c] = [long(m * k)?, long(n * k)?, long(m * n)?];
        if dtype == Dtype::F32 {
            // SAFETY: the pointers are of this device and cover the shapes, as asserted.
            unsafe {
                cudarc::cublas::result::sgemm_strided_batched(
                    self.blas,
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
                    depth,
                    of_a,
                    ptr::from_ref(&ZERO),
                    c as *mut f32,
                    rows,
                    of_c,
                    int(batch)?,
                )?;
            }
            return Ok(());
        }
        // SAFETY: the pointers are of this device and cover the shapes, as asserted.
        unsafe {
            cudarc::cublas::result::gemm_strided_batched_ex(
                self.blas,
                operation,
                plain,
                rows,
                columns,
                depth,
                scalar(&ONE),
                b as *const c_void,
                BF16,
                leading,
                of_b,
                a as *const c_void,
                BF16,
                depth,
                of_a,
                scalar(&ZERO),
                c as *mut c_void,
                BF16,
                rows,
                of_c,
                int(batch)?,
                compute,
                algorithm,
            )?;
        }
        Ok(())
    }

    /// What cuBLASLt's heuristic names for `y = x · wᵀ (+ bias)`: parts that `K` is split into, and, if matrices (`x`,
    /// `w`, bias, `y`) are given, the product itself, as PyTorch's `addmm` with a bias runs it.
    ///
    /// # Panics
    /// When a matrix is smaller.
    pub fn heuristic(
        &self,
        shape: [usize; 3],
        run: Option<(&Matrix, &Matrix, &Matrix, &mut Matrix)>,
    ) -> Result<u32, CudaError> {
        let bias = run.as_ref().map(|(_, _, bias, _)| bias.data.device_ptr(&self.stream).0);
        let workspace = if bias.is_some() { WORKSPACE_LT } else { WORKSPACE };
        let plan = Plan::new(shape, bias, workspace)?;
        let found = plan.heuristic(self.blas_lt)?;
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
        let Some((x, w, _, y)) = run else { return Ok(parts) };
        let [m, n, k] = shape;
        assert!(x.len() >= m * k && w.len() >= n * k && y.len() >= m * n, "shapes differ");
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

/// Descriptors of one product of cuBLASLt.
struct Plan {
    descriptor: lt::cublasLtMatmulDesc_t,
    w: lt::cublasLtMatrixLayout_t,
    x: lt::cublasLtMatrixLayout_t,
    y: lt::cublasLtMatrixLayout_t,
    preference: lt::cublasLtMatmulPreference_t,
}

impl Plan {
    fn new([m, n, k]: [usize; 3], bias: Option<u64>, workspace: usize) -> Result<Self, CudaError> {
        let bf16 = lt::cudaDataType::CUDA_R_16BF;
        let plan = Self {
            descriptor: lt_result::create_matmul_desc(
                lt::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                lt::cudaDataType::CUDA_R_32F,
            )?,
            w: lt_result::create_matrix_layout(bf16, k as u64, n as u64, long(k)?)?,
            x: lt_result::create_matrix_layout(bf16, k as u64, m as u64, long(k)?)?,
            y: lt_result::create_matrix_layout(bf16, n as u64, m as u64, long(n)?)?,
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

    fn heuristic(&self, handle: cublasLtHandle_t) -> Result<lt::cublasLtMatmulHeuristicResult_t, CudaError> {
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

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the handles were created in `open`; nothing can be done about errors.
        unsafe {
            _ = cudarc::cublas::result::destroy_handle(self.blas);
            _ = cudarc::cublaslt::result::destroy_handle(self.blas_lt);
        }
    }
}
