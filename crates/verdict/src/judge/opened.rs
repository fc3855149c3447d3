//! What an opened file gives to a judgement.
//!
//! Left out: reading it, and what its authors computed from it (the published definitions).

use mantissa_evidence::Record;
use mantissa_published::Content;

use super::input::Evidence;
use crate::analysis::Source;

/// The signals of a published file as a record; `None` for a record itself and for files without signals.
pub(super) fn signals(content: &Content, source: &Source) -> Option<Record> {
    let Content::Published(published) = content else { return None };
    let experiment = published.experiment()?.clone();
    Some(Record::from_experiment(experiment, std::path::Path::new(&source.name)))
}

/// The evidence of a file; `signals` as [`signals`] gave them.
pub(super) fn evidence<'a>(
    source: &'a Source,
    content: &'a Content,
    signals: Option<&'a Record>,
) -> Evidence<'a> {
    match content {
        Content::Record(record) => Evidence::of_record(source, record),
        Content::Published(published) => Evidence {
            source,
            record: signals,
            verifications: published.verifications(),
            repeats: published.repeats(),
            tokens: published.tokens(),
            models: published.models(),
        },
    }
}
