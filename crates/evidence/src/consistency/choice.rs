//! How tokens were chosen: whether they were drawn, and where an output ends.
//!
//! Left out: whether each token is the one that is chosen, which needs the model (`mantissa-lab`).

use std::collections::BTreeSet;

use super::conflict::{About, Conflict, Statement};
use crate::experiment::{Configuration, Decoding, Experiment};
use crate::run::Run;

pub(super) fn conflicts(experiment: &Experiment) -> Vec<Conflict> {
    let mut found = Vec::new();
    for (index, configuration) in experiment.configurations.iter().enumerate() {
        found.extend(draws(index, configuration));
        // This engine goes on behind an end, and records of before `ignore_eos` was stated do not say so.
        let setup = configuration.mantissa.as_ref().map(|extras| &extras.setup);
        let setup = setup.filter(|setup| setup.engine != "mantissa-cpu");
        if let Some(settings) = setup.and_then(|setup| setup.generation.as_ref()) {
            let place = format!("configurations[{index}].mantissa.setup.generation.eos_token_id");
            found.extend(past_an_end(experiment, index, &settings.eos_token_id, &place));
        }
    }
    found
}

/// Whether tokens were drawn, which `decoding` says, and `do_sample` of the settings: absent it is false.
fn draws(index: usize, configuration: &Configuration) -> Option<Conflict> {
    let setup = &configuration.mantissa.as_ref()?.setup;
    let drawn = setup.generation.as_ref()?.do_sample;
    let (differs, stated) = match setup.decoding {
        Decoding::Sampled => (!drawn, "sampled"),
        Decoding::Greedy => (drawn, "greedy"),
        Decoding::TeacherForced => (false, "teacher_forced"),
    };
    let at = |field: &str| format!("configurations[{index}].mantissa.setup.{field}");
    differs.then(|| Conflict {
        about: About::Draws,
        config_id: Some(configuration.config_id.clone()),
        statements: vec![
            Statement::new(at("decoding"), stated),
            Statement::new(at("generation.do_sample"), &drawn),
        ],
        more: 0,
    })
}

/// Outputs of a configuration that go on behind one of `ends`, which `place` states, though its settings let that token
/// end them: the first, and how many more.
///
/// Forced tokens end nothing, and neither do those before `min_new_tokens` or `min_length`. What stands behind the end
/// may be the padding of a batch, one token again and again.
///
/// ```
/// use mantissa_evidence::consistency::past_an_end;
///
/// let mut experiment = mantissa_evidence::read("../../fixtures/evidence/v1/experiment.json".as_ref())?;
/// let first = experiment.runs[0].output_token_ids[0];
/// let conflict = past_an_end(&experiment, 0, &[first], "eos_token_id of the model").expect("tokens behind it");
/// assert_eq!(conflict.statements[0].value, first.to_string());
/// let setup = &mut experiment.configurations[0].mantissa.as_mut().expect("a record of Mantissa").setup;
/// setup.generation.get_or_insert_default().ignore_eos = true;
/// assert_eq!(past_an_end(&experiment, 0, &[first], "eos_token_id of the model"), None);
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[must_use]
pub fn past_an_end(
    experiment: &Experiment,
    configuration: usize,
    ends: &[u32],
    place: &str,
) -> Option<Conflict> {
    let configuration = experiment.configurations.get(configuration)?;
    let setup = &configuration.mantissa.as_ref()?.setup;
    let settings = setup.generation.clone().unwrap_or_default();
    if settings.ignore_eos || setup.decoding == Decoding::TeacherForced {
        return None;
    }
    let past = |run: &Run| {
        let output = &run.output_token_ids;
        let from = settings.without_end(run.prompt_token_ids.len());
        let end = (from..output.len()).find(|step| ends.contains(&output[*step]))?;
        let behind: BTreeSet<u32> = output[end + 1..].iter().copied().collect();
        let padding = setup.batch_size > 1 && behind.len() == 1;
        (!behind.is_empty() && !padding).then_some(end)
    };
    let runs = experiment.runs.iter().enumerate().filter(|(_, run)| run.config_id == configuration.config_id);
    let mut found = runs.filter_map(|(index, run)| Some((index, run, past(run)?)));
    let (index, run, end) = found.next()?;
    let tokens = &run.output_token_ids;
    let ends: Vec<String> = ends.iter().map(ToString::to_string).collect();
    let value = format!("{} as output token {} of {}", tokens[end], end + 1, tokens.len());
    Some(Conflict {
        about: About::End,
        config_id: Some(configuration.config_id.clone()),
        statements: vec![
            Statement::new(place, &ends.join(", ")),
            Statement::new(format!("runs[{index}].mantissa.output_token_ids"), &value),
        ],
        more: found.count() as u64,
    })
}

#[cfg(test)]
mod tests {
    use mantissa_numerics::Generation;

    use super::*;

    /// A record whose settings and output are these.
    fn experiment(decoding: Decoding, settings: Option<Generation>, output: &[u32]) -> Experiment {
        let path = "../../fixtures/evidence/v1/experiment.json".as_ref();
        let mut experiment = crate::read(path).unwrap();
        let setup = &mut experiment.configurations[0].mantissa.as_mut().unwrap().setup;
        "transformers".clone_into(&mut setup.engine);
        (setup.decoding, setup.generation) = (decoding, settings);
        for run in &mut experiment.runs {
            run.output_token_ids = output.to_vec();
        }
        experiment
    }

    fn about(experiment: &Experiment) -> Vec<About> {
        conflicts(experiment).iter().map(|found| found.about).collect()
    }

    #[test]
    fn draws_are_stated_alike_in_both_places_or_told() {
        let settings = |do_sample| Some(Generation { do_sample, ..Generation::default() });
        let both = [About::Draws];
        for (decoding, stated, want) in [
            (Decoding::Sampled, settings(false), &both[..]),
            (Decoding::Greedy, settings(true), &both),
            (Decoding::Sampled, settings(true), &[]),
            (Decoding::Greedy, settings(false), &[]),
            (Decoding::Sampled, None, &[]),
            (Decoding::TeacherForced, settings(true), &[]),
        ] {
            assert_eq!(about(&experiment(decoding, stated.clone(), &[1])), want, "{decoding:?} {stated:?}");
        }
        let found = conflicts(&experiment(Decoding::Sampled, settings(false), &[1])).remove(0);
        let said: Vec<_> = found.statements.iter().map(|s| (s.place.as_str(), s.value.as_str())).collect();
        let setup = "configurations[0].mantissa.setup";
        let (decoding, settings) = (format!("{setup}.decoding"), format!("{setup}.generation.do_sample"));
        assert_eq!(said, [(decoding.as_str(), "sampled"), (settings.as_str(), "false")]);
    }

    #[test]
    fn an_output_that_goes_on_behind_its_end_is_told_unless_its_settings_say_why() {
        let ends = Generation { eos_token_id: vec![2, 9], ..Generation::default() };
        let past = [5, 9, 7, 8];
        let of = |settings: Generation, output: &[u32]| {
            about(&experiment(Decoding::Greedy, Some(settings), output))
        };
        assert_eq!(of(ends.clone(), &past), [About::End]);
        assert_eq!(of(ends.clone(), &[5, 7, 8, 9]), [], "it ends there");
        assert_eq!(of(Generation::default(), &past), [], "no end is stated");
        assert_eq!(of(Generation { ignore_eos: true, ..ends.clone() }, &past), []);
        let (least, short) = (|n| Some(n), ends.clone());
        assert_eq!(of(Generation { min_new_tokens: least(2), ..short.clone() }, &past), []);
        assert_eq!(of(Generation { min_new_tokens: least(1), ..short }, &past), [About::End]);
        let forced = experiment(Decoding::TeacherForced, Some(ends.clone()), &past);
        assert_eq!(about(&forced), []);
        // The fixture's batch of 2 is padded where one sequence ends before the other.
        assert_eq!(of(ends.clone(), &[5, 9, 0, 0]), []);
        let mut alone = experiment(Decoding::Greedy, Some(ends), &[5, 9, 0, 0]);
        alone.configurations[0].mantissa.as_mut().unwrap().setup.batch_size = 1;
        let found = conflicts(&alone).remove(0);
        let values: Vec<&str> = found.statements.iter().map(|stated| stated.value.as_str()).collect();
        assert_eq!(values, ["2, 9", "9 as output token 2 of 4"]);
        assert_eq!(found.more + 1, alone.runs.len() as u64);
    }
}
