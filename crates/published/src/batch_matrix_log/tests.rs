//! The founding log as it is read.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::verification::{CellKey, Relation};
use mantissa_numerics::Phase;

use super::content::{BatchMatrixLog, Reference};
use super::reader;

fn batch() -> BatchMatrixLog {
    let path = mantissa_testkit::published("prefill_decode_batch_matrix.log");
    reader::parse(&std::fs::read(path).unwrap(), Path::new("x.log")).unwrap()
}

/// Generated ids by reference and batch size.
fn ids(log: &BatchMatrixLog) -> BTreeMap<String, BTreeMap<u64, Vec<u32>>> {
    let by_size =
        |reference: &Reference| reference.runs.iter().map(|run| (run.batch_size, run.ids.clone())).collect();
    log.references.iter().map(|reference| (reference.name.clone(), by_size(reference))).collect()
}

#[test]
fn the_batch_matrix_is_read() {
    let log = batch();
    assert_eq!(log.model, "Qwen/Qwen2.5-7B-Instruct");
    assert_eq!(log.environment["gpu_name"], "NVIDIA A100-SXM4-80GB");
    assert_eq!(log.environment.len(), 8);
    assert_eq!((log.layers.as_slice(), log.batch_sizes.as_slice()), (&[28][..], &[4, 5, 8, 9, 16, 17][..]));
    let tokens: Vec<u64> = log.documents.iter().map(|(_, tokens)| tokens.value).collect();
    assert_eq!(tokens, [120_214, 29_497, 99_282]);
    assert_eq!((log.total_tokens.value, log.slices.value, log.slice_tokens), (248_993, 51, 512));
    assert_eq!(log.references.len(), 3);
    for reference in &log.references {
        assert_eq!(reference.output_indices(), [16, 17, 18]);
        assert_eq!((reference.decode.len(), reference.prefill.len(), reference.replays.len()), (15, 15, 36));
        assert_eq!(reference.replays.iter().filter(|replay| replay.exact_neighbours).count(), 6);
    }
    let ids = ids(&log);
    let at_17: Vec<(u64, u32)> = ids["ref_2"].iter().map(|(&size, run)| (size, run[17])).collect();
    assert_eq!(at_17, [(4, 16), (5, 17), (8, 17), (9, 19), (16, 16), (17, 16)]);
    assert!(ids["ref_2"].values().all(|run| run[..17] == ids["ref_2"][&4][..17]));
    assert!(ids["ref_0"].values().chain(ids["ref_1"].values()).all(|run| run.len() == 20));
    assert_eq!((log.keys.snr.text.as_str(), log.logprobs.snr.text.as_str()), ("0.91", "0.98"));
    assert_eq!((log.keys.word.as_str(), log.keys.snr.line), ("NOT DETECTABLE", 796));
    let zeros = log.within[1].zeros.as_ref().unwrap();
    assert_eq!(zeros.counts[0].as_ref().unwrap().value, (2, 45));
    assert_eq!(zeros.by_reference[1].1[1].value, [(5, 9)]);
    assert!(log.within[0].zeros.is_none());
}

#[test]
fn printed_cells_become_distances_with_their_rounding() {
    let verifications = batch().distances();
    let relations: Vec<Relation> = verifications.iter().map(|verification| verification.relation).collect();
    assert_eq!(relations, [Relation::DecodePrefill, Relation::WithinMode, Relation::WithinMode]);
    let counts: Vec<usize> = verifications.iter().map(|verification| verification.cells.len()).collect();
    assert_eq!(counts, [216, 90, 90]);
    let key = CellKey {
        phase: Phase::Prefill,
        signal: "key_vectors".to_owned(),
        reference: Some("ref_1".to_owned()),
        claimed: 1,
        verified: 3,
    };
    let zero = &verifications[2].cells[&key];
    assert_eq!((zero.mean.to_bits(), zero.rounding.to_bits()), (0, 0));
    let replayed = &verifications[0].cells[&key];
    assert_eq!(
        (replayed.mean.to_bits(), replayed.rounding.to_bits()),
        (1.17f64.to_bits(), 0.005f64.to_bits())
    );
    assert_eq!(replayed.max, Some(1.17));
}
