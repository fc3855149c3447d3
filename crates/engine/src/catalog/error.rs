//! Why a catalog cannot be used.

use super::format::FORMAT;
use super::origin::Stack;

/// A catalog that cannot be used.
///
/// Example: [`super::parse_sizes`].
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Not JSON of the right shape.
    #[error("not a catalog ({0}); build it again with `mantissa catalog build`")]
    Json(#[from] serde_json::Error),
    /// Another format.
    #[error("format is '{0}', this version reads '{FORMAT}' and those before; build the catalog again")]
    Format(String),
    /// A list of sizes that is none.
    #[error("'{0}' is no list of sizes; write first-last/step, separated by commas")]
    Sizes(String),
    /// Steps over sizes that are none.
    #[error("steps over {sizes}: {why}; build the catalog again")]
    Steps {
        /// The sizes that were asked.
        sizes: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A file whose heuristic names another sum than the product had.
    #[error("for {0} the heuristic names another sum than the product had; build the catalog again")]
    Misnamed(String),
    /// A weight of which there are no products.
    #[error("no weight has {0}; build the catalog again")]
    Weight(String),
    /// A recipe that no kernel of the engine computes.
    #[error("sizes {sizes}: {why}; build the catalog again")]
    Recipe {
        /// The class.
        sizes: String,
        /// What is wrong with its recipe.
        why: &'static str,
    },
    /// Another GPU.
    #[error("the catalog is of {gpu}, which no --hardware value names; known are {known}")]
    Gpu {
        /// Its name and multiprocessors.
        gpu: String,
        /// Those of the built-in catalogs.
        known: String,
    },
    /// It says something else than another catalog of the same GPU and library.
    #[error(
        "{shape} has another recipe in {known}; a file replaces nothing: measure it again, or leave one out"
    )]
    Contradiction {
        /// The first shape of which they differ.
        shape: String,
        /// The other catalog, in words.
        known: String,
    },
    /// A library version of which there is no catalog.
    #[error("there is no catalog of {wanted}; known are those of {known}")]
    Stack {
        /// What was asked for.
        wanted: Stack,
        /// What there is.
        known: String,
    },
    /// Files of several library versions, and nothing that says which is meant.
    #[error("the catalogs given are of several libraries ({0}); name the one that is meant with --cublas")]
    Unsettled(String),
}
