//! Bytes as a record that is read row by row: errors of one line, rows of the stated width, and whatever the whole-file
//! reader takes is the same here, bit for bit.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mantissa_evidence::record::RowKey;
use mantissa_evidence::{EvidenceError, Record, json};
use mantissa_numerics::Phase;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.json");
    let eager = json::parse(bytes, path);
    let lazy = Record::from_bytes(bytes.to_vec(), path);
    if let (Ok(eager), Ok(lazy)) = (&eager, &lazy) {
        let eager = Record::from_experiment(eager.clone(), path);
        assert_eq!(eager.shell(), lazy.shell());
        let [eager, lazy] =
            [&eager, lazy].map(|record| rows(record).expect("the whole-file reader took every row"));
        assert_eq!(eager, lazy);
    }
    let read = lazy.and_then(|record| rows(&record).and_then(|_| record.verify()));
    if let Err(error) = read {
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
});

/// Every row and candidate in order, as bytes.
fn rows(record: &Record) -> Result<Vec<Vec<u8>>, EvidenceError> {
    let (mut rows, mut scratch) = (Vec::new(), Vec::new());
    for run in 0..record.shell().runs.len() {
        for phase in [Phase::Prefill, Phase::Decode] {
            let Some(layout) = record.layout(run, phase) else { continue };
            for step in layout.steps.clone() {
                for &position in &layout.positions {
                    let key = RowKey { phase, step, position };
                    for (&site, tensor) in &layout.tensors {
                        let row = record.row(run, site, key, &mut scratch)?.expect("is in the layout");
                        assert_eq!(row.len(), tensor.dim * tensor.dtype.size());
                        rows.push(row.to_vec());
                    }
                    if let Some(found) = record.candidates(run, key)? {
                        let bits = found.log_probs.iter().map(|x| x.to_bits());
                        rows.push(
                            found.token_ids.into_iter().chain(bits).flat_map(u32::to_le_bytes).collect(),
                        );
                    }
                }
            }
        }
    }
    Ok(rows)
}
