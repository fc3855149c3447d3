//! Where a catalog comes from: the GPU, and the libraries that picked kernels there.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a catalog comes from.
///
/// Example: [`super::Catalog`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The GPU as its driver names it.
    pub gpu: String,
    /// Multiprocessors, of which heuristics take account.
    pub multiprocessors: u32,
    /// Version of cuBLAS.
    pub cublas: String,
    /// CUDA version of the driver.
    pub driver: String,
    /// Date of measurement, `YYYY-MM-DD`.
    pub date: String,
}

/// Versions of the libraries that pick kernels: another version may pick others.
///
/// ```
/// let stack = mantissa_engine::catalog::Stack { cublas: "13.1.0".to_owned() };
/// assert_eq!(stack.to_string(), "cuBLAS 13.1.0");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stack {
    /// Version of cuBLAS.
    pub cublas: String,
}

impl Stack {
    /// The libraries that a catalog was measured with.
    ///
    /// ```
    /// use mantissa_engine::Hardware;
    /// use mantissa_engine::Catalogs;
    /// use mantissa_engine::catalog::Stack;
    ///
    /// let catalogs = Catalogs::default();
    /// let known = catalogs.of(Hardware::H200).expect("a built-in catalog");
    /// assert_eq!(Stack::of(known.origin()).cublas, "13.1.0");
    /// ```
    #[must_use]
    pub fn of(origin: &Origin) -> Self {
        Self { cublas: origin.cublas.clone() }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuBLAS {}", self.cublas)
    }
}
