//! No statement of an analysis contradicts another, whatever the evidence.

use mantissa_published::open;
use mantissa_testkit::{all_synthetic, synthetic};
use mantissa_verdict::analysis::{Answer, Outcome, Source, State};
use mantissa_verdict::judge::Options;
use mantissa_verdict::{Analysis, judge};
use proptest::prelude::*;

use super::contradictions::contradictions;
use super::synthetic::{Sample, keys};

/// A setup that is drawn: its machine, how far its rows lie from others', its noise, how often it was repeated.
type Setup = (bool, u8, u8, u32);

/// An experiment of these setups over so many references; `noise` decides each row.
fn experiment(setups: &[Setup], references: u32, parting: Option<u32>, noise: &[u8]) -> Sample {
    let names: Vec<String> = (0..setups.len()).map(|index| format!("s{index}")).collect();
    let configurations: Vec<(&str, &str, u32)> = names
        .iter()
        .zip(setups)
        .zip(0..)
        // Of each two neighbours, one machine or two, so that there are baselines too.
        .map(|((name, setup), index)| (name.as_str(), if setup.0 { "A" } else { "B" }, 1 + index / 2))
        .collect();
    let mut sample = Sample::new("batch_size", &configurations);
    let mut noise = noise.iter().copied().cycle();
    for (name, &(_, offset, spread, repetitions)) in names.iter().zip(setups) {
        for reference in 0..references {
            for repetition in 0..repetitions {
                let moved = |noise: u8| f32::from(noise % (spread + 1)) / 8.0;
                let value = f32::from(offset) + moved(noise.next().unwrap_or_default());
                let run = sample.run(name, reference, repetition, value);
                run.decode = Some(keys(&[value, f32::from(offset), moved(noise.next().unwrap_or_default())]));
                if parting == Some(reference) && offset == 0 {
                    run.output_token_ids[1] = 9;
                }
            }
        }
    }
    sample
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_that_an_analysis_says_contradicts_another(
        setups in prop::collection::vec((any::<bool>(), 0..3_u8, 0..4_u8, 1..5_u32), 1..5),
        references in 1..9_u32,
        parting in prop::option::of(0..3_u32),
        noise in prop::collection::vec(any::<u8>(), 97),
    ) {
        let analysis = experiment(&setups, references, parting, &noise).judged();
        prop_assert_eq!(contradictions(&analysis), Vec::<String>::new());
    }
}

#[test]
fn nothing_said_of_files_of_any_layout_contradicts_another() {
    for name in all_synthetic() {
        let file = open(&synthetic(&name)).unwrap();
        let Ok(analysis) = judge(&[(Source::from(&file), &file.content)], &Options::default()) else {
            continue;
        };
        assert_eq!(contradictions(&analysis), Vec::<String>::new(), "{name}");
    }
}

/// The check itself notices what it is for.
#[test]
fn planted_contradictions_are_noticed() {
    let sample = experiment(&[(true, 0, 0, 3), (true, 1, 0, 3), (true, 0, 0, 3)], 3, None, &[0]);
    let honest = sample.judged();
    assert_eq!(contradictions(&honest), Vec::<String>::new());
    let apart = |analysis: &Analysis| {
        analysis.pairs.iter().position(|pair| pair.answer == Answer::Separable).expect("a pair")
    };
    let planted: [fn(&mut Analysis, usize); 6] = [
        |analysis, at| analysis.pairs[at].answer = Answer::NotSeparable,
        |analysis, at| analysis.pairs.push(analysis.pairs[at].clone()),
        |analysis, _| analysis.outcome = Outcome::Consistent,
        |analysis, _| analysis.findings.push(analysis.findings[0].clone()),
        |analysis, _| {
            let all = analysis.classes[0].classes.concat();
            analysis.classes[0].classes = vec![all];
        },
        |analysis, _| analysis.reproducibility[0].state = State::Different,
    ];
    for (index, plant) in planted.into_iter().enumerate() {
        let mut analysis = honest.clone();
        let at = apart(&analysis);
        plant(&mut analysis, at);
        assert_ne!(contradictions(&analysis), Vec::<String>::new(), "planted {index}");
    }
}
