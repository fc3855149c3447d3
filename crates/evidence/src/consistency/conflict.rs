//! What is found where two statements do not agree.

use mantissa_numerics::setup::Axis;

/// Two statements of one file that cannot both be true.
///
/// ```
/// use mantissa_evidence::consistency::{About, conflicts};
/// use mantissa_evidence::{Record, read};
/// use mantissa_numerics::setup::Axis;
///
/// let path = "../../fixtures/evidence/v1/experiment.json".as_ref();
/// let mut experiment = read(path)?;
/// experiment.configurations[0].variable_value = 8.into();
/// let found = conflicts(&Record::from_experiment(experiment, path))?;
/// let batch_size = found.iter().find(|one| one.about == About::Axis(Axis::BatchSize)).expect("a conflict");
/// let values: Vec<&str> = batch_size.statements.iter().map(|stated| stated.value.as_str()).collect();
/// assert_eq!(values, ["8", "2"]);
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What is stated twice.
    pub about: About,
    /// The configuration that it is about; `None` where it concerns the whole file.
    pub config_id: Option<String>,
    /// Who says what: each different statement once, the first place of each.
    pub statements: Vec<Statement>,
    /// How many more conflicts of this kind there are in the same run, which are not listed.
    pub more: u64,
}

/// A statement: where, and what.
///
/// Example: [`Conflict`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// A JSON path, or a row of a run.
    pub place: String,
    /// What stands there.
    pub value: String,
}

/// What is stated twice.
///
/// Example: [`Conflict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum About {
    /// An axis of the setup: a claim says which value is meant.
    Axis(Axis),
    /// The model's name: a claim says which is meant.
    Model,
    /// The digest of the weights.
    Weights,
    /// The version of a library.
    Version(&'static str),
    /// A number of the metadata, by what it counts.
    Count(&'static str),
    /// The text of a prompt beside its ids.
    PromptText,
    /// The text of an output beside its ids.
    OutputText,
    /// The bits of one row, which several passes stored.
    Row,
    /// Whether tokens were drawn.
    Draws,
    /// The token that ends an output.
    End,
}

impl Statement {
    /// A statement.
    ///
    /// ```
    /// use mantissa_evidence::Statement;
    ///
    /// assert_eq!(Statement::new("configurations[0].hardware", "h200").value, "h200");
    /// ```
    #[must_use]
    pub fn new(place: impl Into<String>, value: &(impl ToString + ?Sized)) -> Self {
        Self { place: place.into(), value: value.to_string() }
    }
}

/// The conflict among `statements`, where `alike` holds for some pair of them not: each different one once.
pub(super) fn among(
    about: About,
    config_id: Option<&str>,
    statements: Vec<Statement>,
    alike: impl Fn(&str, &str) -> bool,
) -> Option<Conflict> {
    let mut different: Vec<Statement> = Vec::new();
    for statement in statements {
        if !different.iter().any(|known| alike(&known.value, &statement.value)) {
            different.push(statement);
        }
    }
    (different.len() > 1).then(|| Conflict {
        about,
        config_id: config_id.map(str::to_owned),
        statements: different,
        more: 0,
    })
}
