//! Arguments as the libraries' calls take them.

use std::ffi::{c_int, c_void};
use std::ptr;

use cudarc::cublas::sys::cudaDataType;
use mantissa_numerics::Dtype;

use crate::error::CudaError;

pub(super) const ONE: f32 = 1.0;
pub(super) const ZERO: f32 = 0.0;

/// The library's name of a format.
pub(super) const fn data_type(dtype: Dtype) -> cudaDataType {
    match dtype {
        Dtype::F32 => cudaDataType::CUDA_R_32F,
        Dtype::Bf16 => cudaDataType::CUDA_R_16BF,
        Dtype::F16 => cudaDataType::CUDA_R_16F,
    }
}

pub(super) const fn scalar(x: &'static f32) -> *const c_void {
    ptr::from_ref(x).cast()
}

pub(super) fn int(x: usize) -> Result<c_int, CudaError> {
    c_int::try_from(x).map_err(|_| CudaError::Size(x))
}

pub(super) fn long(x: usize) -> Result<i64, CudaError> {
    i64::try_from(x).map_err(|_| CudaError::Size(x))
}
