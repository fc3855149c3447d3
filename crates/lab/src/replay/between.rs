//! Two repetitions of one setup beside each other: the noise that a replay of it may show too.

use std::collections::BTreeSet;

use mantissa_compare::ReplayFacts;
use mantissa_evidence::Record;
use mantissa_evidence::record::RowKey;
use mantissa_numerics::Phase;

use crate::error::LabError;

/// Facts about run `a` beside run `b` of one prompt, as far as both consumed the same tokens.
///
/// ```
/// use mantissa_evidence::Record;
///
/// let record = Record::open("../../fixtures/evidence/v1/container".as_ref())?;
/// let facts = mantissa_lab::replay::between(&record, 0, 0)?;
/// assert!(facts.prefill.values > 0 && !facts.differs(), "a run does not differ from itself");
/// // Another storage format cannot be set beside it.
/// assert_eq!(mantissa_lab::replay::between(&record, 0, 1)?.prefill.values, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn between(record: &Record, a: usize, b: usize) -> Result<ReplayFacts, LabError> {
    let mut facts = ReplayFacts::default();
    let (Some(first), Some(second)) = (record.shell().runs.get(a), record.shell().runs.get(b)) else {
        return Ok(facts);
    };
    if first.prompt_token_ids != second.prompt_token_ids {
        return Ok(facts);
    }
    let outputs = first.output_token_ids.iter().zip(&second.output_token_ids);
    let same = outputs.take_while(|(x, y)| x == y).count() as u64;
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for phase in [Phase::Prefill, Phase::Decode] {
        let (Some(layout), Some(beside)) = (record.layout(a, phase), record.layout(b, phase)) else {
            continue;
        };
        for step in layout.steps.clone() {
            // Decode step s has consumed s + 1 output tokens.
            if phase == Phase::Decode && step >= same {
                break;
            }
            for (&site, tensor) in &layout.tensors {
                if beside.tensors.get(&site) != Some(tensor) {
                    continue;
                }
                let own = |run| record.own_rows(run, phase, Some(site), step..step + 1);
                let own: BTreeSet<i32> =
                    [a, b].into_iter().flat_map(own).flat_map(|rows| rows.positions).collect();
                for position in own {
                    let key = RowKey { phase, step, position };
                    let row = record.row(a, site, key, &mut one)?;
                    if let (Some(row), Some(beside)) = (row, record.row(b, site, key, &mut other)?) {
                        facts.phase_mut(phase).row((step, position), site, tensor.dtype, row, beside);
                    }
                }
            }
        }
    }
    Ok(facts)
}
