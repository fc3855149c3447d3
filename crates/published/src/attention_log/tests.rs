//! The founding log as it is read.

use std::path::Path;

use super::reader::{self, AttentionLog};

fn attention() -> AttentionLog {
    let path = mantissa_testkit::published("attention_cross_hardware_verification.log");
    reader::parse(&std::fs::read(path).unwrap(), Path::new("x.log")).unwrap()
}

#[test]
fn the_attention_log_is_read() {
    let log = attention();
    assert_eq!(log.implementations, ["eager", "sdpa", "flash_attention_2"]);
    assert_eq!(
        (log.generator_gpu.as_str(), log.verifier_gpu.as_str()),
        ("NVIDIA H100 NVL", "NVIDIA A100-SXM4-80GB")
    );
    assert_eq!(log.prompt.value, [33, 10_000, 34, 10_067]);
    assert_eq!((log.prompts.value, log.versions.len()), (6, 3));
    let snr = log.phases.iter().flat_map(|phase| [&phase.keys.snr.text, &phase.logprobs.snr.text]);
    assert_eq!(snr.collect::<Vec<_>>(), ["10.94", "10.34", "4.43", "5.76"]);
    let [verification] = log.distances().try_into().unwrap();
    assert_eq!(verification.cells.len(), 36);
    assert!(
        verification.mismatches.is_empty() && verification.cells.keys().all(|key| key.reference.is_none())
    );
}
