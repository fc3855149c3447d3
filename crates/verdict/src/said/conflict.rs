//! Sentences about evidence that contradicts itself.

use mantissa_evidence::{About, Conflict};

use super::words;

/// What a file states twice and not alike, with both places and both values.
///
/// ```
/// use mantissa_evidence::{About, Conflict, Statement};
/// use mantissa_numerics::setup::Axis;
///
/// let conflict = Conflict {
///     about: About::Axis(Axis::BatchSize),
///     config_id: Some("bs1".to_owned()),
///     statements: [("variable_value", 8), ("mantissa.setup.batch_size", 1)]
///         .map(|(field, value)| Statement::new(format!("configurations[0].{field}"), &value))
///         .to_vec(),
///     more: 0,
/// };
/// assert_eq!(
///     mantissa_verdict::conflict(&conflict),
///     "the file contradicts itself about the batch_size of bs1: configurations[0].variable_value says '8', \
///      configurations[0].mantissa.setup.batch_size says '1'"
/// );
/// ```
#[must_use]
pub fn conflict(found: &Conflict) -> String {
    let of = found.config_id.as_ref().map_or_else(String::new, |id| format!(" of {id}"));
    let said = found.statements.iter().map(|stated| format!("{} says '{}'", stated.place, stated.value));
    let more = match (found.more, found.about) {
        (0, _) => String::new(),
        (n, About::End) => format!(", and so in {} more", words::count(n, "run")),
        (n, About::Row) => format!(", and {} more", words::count(n, "row")),
        (n, _) => format!(", and {n} more"),
    };
    format!(
        "the file contradicts itself about {}{of}: {}{more}",
        about(found.about),
        said.collect::<Vec<_>>().join(", ")
    )
}

/// What is contested, in a word or a few.
pub(crate) fn about(about: About) -> String {
    match about {
        About::Axis(axis) => format!("the {}", axis.name()),
        About::Model => "the model's name".to_owned(),
        About::Weights => "the digest of the weights".to_owned(),
        About::Version(library) => format!("the version of {library}"),
        About::Count(what) => format!("the number of {what}"),
        About::PromptText => "a prompt (its text and its ids)".to_owned(),
        About::OutputText => "an output (its text and its ids)".to_owned(),
        About::Row => "a row that two passes stored".to_owned(),
        About::Draws => "whether tokens were drawn".to_owned(),
        About::End => "the end of an output".to_owned(),
        // Another kind of conflict is added here with its words.
        _ => "what it holds".to_owned(),
    }
}

/// What settles a conflict.
pub(crate) fn settles(about: About) -> String {
    match about {
        About::Axis(axis) => format!("--claim {}=… says what is meant", axis.name()),
        About::Model => "--claim model=… says which is meant".to_owned(),
        About::Version(_) => "--claim hardware=… says whose arithmetic is meant".to_owned(),
        About::Draws => "--claim do_sample=… says whether they were".to_owned(),
        About::End => "--claim ignore_eos=true says that outputs go on behind their end".to_owned(),
        About::Row => {
            "no claim settles it: the file was altered, or decoding used no cache, which is not covered; \
            evidence of decoding with a cache, as it was recorded, would be enough"
                .to_owned()
        }
        _ => "no claim settles it; the evidence as it was recorded would be enough".to_owned(),
    }
}

/// Why there is no verdict on a claim.
pub(crate) fn no_verdict(open: &[&Conflict]) -> String {
    let all: Vec<String> =
        open.iter().map(|found| format!("{}; {}", conflict(found), settles(found.about))).collect();
    format!("no verdict: {}", all.join("; "))
}
