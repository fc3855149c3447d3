//! What files state of themselves: model, hardware, date, warnings.

use mantissa_verdict::analysis::Source;

use crate::words;

/// What files state of themselves.
pub(super) fn about(sources: &[Source]) -> Vec<(&'static str, String)> {
    let stated = |names: Vec<String>| match names.as_slice() {
        [] => "not stated".to_owned(),
        names => words::listed(names, 6),
    };
    let mut dates: Vec<String> = sources.iter().filter_map(|source| source.date.clone()).collect();
    dates.sort();
    dates.dedup();
    let date = match dates.as_slice() {
        [first, .., last] => format!("{first} to {last}"),
        dates => stated(dates.to_vec()),
    };
    let files: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    vec![
        ("Model", stated(all(sources, |source| &source.models))),
        ("Hardware", stated(all(sources, |source| &source.hardware))),
        ("Date of the evidence", date),
        ("Evidence", if files.is_empty() { "none".to_owned() } else { words::listed(&files, 4) }),
    ]
}

/// What any of the files state, each once.
pub(super) fn all(sources: &[Source], of: impl Fn(&Source) -> &Vec<String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in sources.iter().flat_map(of) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Warnings, each once with the files that it is true of.
pub(super) fn warnings(sources: &[Source]) -> Vec<String> {
    let mut said: Vec<(&str, &str, usize)> = Vec::new();
    for source in sources {
        for warning in &source.warnings {
            match said.iter_mut().find(|(_, known, _)| known == warning) {
                Some((_, _, files)) => *files += 1,
                None => said.push((&source.name, warning, 1)),
            }
        }
    }
    let more = |files: usize| if files > 1 { format!(" and {} more", files - 1) } else { String::new() };
    said.into_iter().map(|(name, warning, files)| format!("{name}{}: {warning}", more(files))).collect()
}
