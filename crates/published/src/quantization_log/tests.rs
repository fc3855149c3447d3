//! The founding log as it is read.

use std::path::Path;

use super::reader::{self, QuantizationLog};

fn quantization() -> QuantizationLog {
    let path = mantissa_testkit::published("quantization_format_generation.log");
    reader::parse(&std::fs::read(path).unwrap(), Path::new("x.log")).unwrap()
}

/// Configurations by equal text of the first tokens, in order.
fn text_groups(log: &QuantizationLog, reference: usize) -> Vec<Vec<&str>> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (configuration, output) in log.configurations.iter().zip(&log.consistency[reference]) {
        match groups.iter_mut().find(|(text, _)| *text == output.text) {
            Some((_, group)) => group.push(&configuration.name),
            None => groups.push((&output.text, vec![&configuration.name])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

#[test]
fn the_quantization_log_is_read() {
    let log = quantization();
    assert_eq!(log.names(), ["awq", "awq_marlin", "gptq_marlin", "gptq"]);
    assert_eq!(log.configurations[3].dtype, "float16");
    let decode: Vec<&str> = log.repetitions[3].pairs.iter().map(|pair| pair.decode.text.as_str()).collect();
    assert_eq!(decode, ["4.67e-02", "inf", "inf"]);
    let deterministic: Vec<bool> = log.repetitions.iter().map(|of| of.deterministic).collect();
    assert_eq!(deterministic, [true, true, true, false]);
    for reference in 0..4 {
        assert_eq!(text_groups(&log, reference), [["awq", "awq_marlin"], ["gptq_marlin", "gptq"]]);
    }
    assert!(log.generations[0][0].opening.value.starts_with("<think>\nOkay, let me"));
    assert_eq!((log.snr.text.as_str(), log.word.value.as_str()), ("4.9", "MARGINALLY"));
    let [prefill, decode] = log.distances().try_into().unwrap();
    assert_eq!((prefill.cells.len(), decode.cells.len()), (64, 64));
    assert_eq!(decode.cells.values().filter(|cell| cell.mean.is_infinite()).count(), 16);
    assert_eq!(prefill.cells.values().filter(|cell| cell.mean.is_infinite()).count(), 0);
}
