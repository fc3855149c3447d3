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
    /// How many clusters of 1, 2, … 16 blocks are active at once, each block on a multiprocessor of its own: heuristics
    /// take account of them, and dies of one name may differ. Empty where catalogs of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active_clusters: Vec<u32>,
    /// Version of cuBLAS.
    pub cublas: String,
    /// CUDA version of the driver.
    pub driver: String,
    /// Date of measurement, `YYYY-MM-DD`.
    pub date: String,
}

impl Origin {
    /// Whether another catalog's GPU is the same to a heuristic, as far as both say.
    pub(crate) fn is_die_of(&self, other: &Self) -> bool {
        let known = [self, other].iter().all(|origin| !origin.active_clusters.is_empty());
        self.gpu == other.gpu
            && self.multiprocessors == other.multiprocessors
            && (!known || self.active_clusters == other.active_clusters)
    }

    /// The GPU in the words that tell dies apart.
    ///
    /// ```
    /// use mantissa_engine::{Catalogs, Hardware};
    ///
    /// let catalogs = Catalogs::default();
    /// let known = catalogs.of(Hardware::H100).expect("a built-in catalog");
    /// let die = known.origin().die();
    /// assert!(die.ends_with(" with 132 multiprocessors and clusters 132 66 39 30 22 17 15 15 9 7 7 7 7 7 7 7"));
    /// ```
    #[must_use]
    pub fn die(&self) -> String {
        let Self { gpu, multiprocessors, active_clusters, .. } = self;
        let clusters: Vec<String> = active_clusters.iter().map(ToString::to_string).collect();
        match clusters.as_slice() {
            [] => format!("{gpu} with {multiprocessors} multiprocessors"),
            counts => {
                format!("{gpu} with {multiprocessors} multiprocessors and clusters {}", counts.join(" "))
            }
        }
    }
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
