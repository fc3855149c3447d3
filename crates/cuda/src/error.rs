//! Why there is no GPU, or what it refused.

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
        "{0} was not found; run on a machine with an NVIDIA driver and CUDA 13, and put the folder of the library into \
         LD_LIBRARY_PATH"
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
    /// A heuristic that names more parts than a sum can have.
    #[error(
        "cuBLASLt's heuristic cuts a sum into {0} parts, which no recipe has; such a weight stays uncovered"
    )]
    Parts(u32),
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
