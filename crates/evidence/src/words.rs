//! How others call what this program has a word for: GPUs by their full names, unquantized weights, attention.

use mantissa_numerics::setup::{Axis, Value};

/// Whether `text` stands for something that a file does not say.
///
/// ```
/// use mantissa_evidence::words::says_nothing;
///
/// assert!(says_nothing("not stated") && says_nothing("N/A") && !says_nothing("none"));
/// ```
#[must_use]
pub fn says_nothing(text: &str) -> bool {
    matches!(
        plain(text).as_str(),
        "" | "not stated" | "unknown" | "n a" | "na" | "null" | "unspecified" | "default"
    )
}

/// A value of `axis` by any name that is used for it.
///
/// *Errors:* why not, where the name is known and means something else.
///
/// ```
/// use mantissa_evidence::words::read;
/// use mantissa_numerics::setup::Axis;
///
/// assert_eq!(read(Axis::Hardware, "NVIDIA H100 80GB HBM3"), Ok(Axis::Hardware.parse("h100")?));
/// assert_eq!(read(Axis::Hardware, "toaster"), Err(None));
/// # Ok::<(), mantissa_numerics::setup::WrongValue>(())
/// ```
pub fn read(axis: Axis, text: &str) -> Result<Value, Option<String>> {
    if let Ok(value) = axis.parse_stored(text) {
        return Ok(value);
    }
    let word = match axis {
        Axis::Hardware => hardware(text)?,
        Axis::Attention => attention(text).ok_or(None)?,
        Axis::Dtype => dtype(text).ok_or(None)?,
        Axis::Compile | Axis::ConcurrentStreams => truth(text).ok_or(None)?,
        _ => return Err(None),
    };
    axis.parse_stored(word).map_err(|_| None)
}

/// Lower case, with one space for whatever separates words.
pub(crate) fn plain(text: &str) -> String {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A GPU as drivers, clouds and people call it: `NVIDIA H100 80GB HBM3`, `A100-SXM4-80GB`, `h200-141gb`.
fn hardware(text: &str) -> Result<&'static str, Option<String>> {
    let plain = plain(text);
    let has =
        |word: &str| plain.split(' ').any(|other| other == word || other.starts_with(&format!("{word}x")));
    let of_vendor = !["amd", "intel", "tpu", "gh200", "gb200"].into_iter().any(has);
    match () {
        () if !of_vendor => Err(None),
        () if has("h200") => Ok("h200"),
        () if has("h100") && has("pcie") => Err(Some(
            "an H100 PCIe has 114 multiprocessors, and the H100 that was measured (SXM, as the NVL) 132: its libraries \
             choose other kernels"
                .to_owned(),
        )),
        () if has("h100") => Ok("h100"),
        () if has("a100") => Ok("a100"),
        () if has("l40s") => Ok("l40s"),
        () => Err(None),
    }
}

fn attention(text: &str) -> Option<&'static str> {
    Some(match plain(text).as_str() {
        "flash attention 2" | "flash attn 2" | "flashattention 2" | "flashattention2" | "fa2"
        | "flash attention" | "flash attn" | "flash" => "flash_attention_2",
        "sdpa" | "scaled dot product attention" | "torch sdpa" => "sdpa",
        "eager" | "vanilla" => "eager",
        _ => return None,
    })
}

fn dtype(text: &str) -> Option<&'static str> {
    Some(match plain(text).trim_start_matches("torch ") {
        "bfloat16" | "bf16" => "bf16",
        "float16" | "fp16" | "half" | "f16" => "f16",
        "float32" | "fp32" | "float" | "f32" => "f32",
        _ => return None,
    })
}

fn truth(text: &str) -> Option<&'static str> {
    Some(match plain(text).as_str() {
        "on" | "yes" | "true" | "1" | "compiled" => "true",
        "off" | "no" | "false" | "0" | "none" | "eager" => "false",
        _ => return None,
    })
}

/// Whether a word for quantization says that weights are not quantized: `none`, or the format they are stored in.
///
/// ```
/// use mantissa_evidence::words::is_unquantized;
///
/// assert!(is_unquantized("bfloat16") && !is_unquantized("awq"));
/// ```
#[must_use]
pub fn is_unquantized(text: &str) -> bool {
    let plain = plain(text);
    says_nothing(text)
        || matches!(
            plain.as_str(),
            "none" | "no" | "false" | "unquantized" | "full" | "full precision" | "off"
        )
        || dtype(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_gpus_are_read_and_others_of_like_names_are_not() {
        for (name, word) in [
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("H100-SXM5-80GB", "h100"),
            ("h100_sxm", "h100"),
            ("NVIDIA H100 NVL", "h100"),
            ("H100-80GB", "h100"),
            ("NVIDIA H200", "h200"),
            ("h200-141gb", "h200"),
            ("NVIDIA A100-SXM4-80GB", "literature-a100"),
            ("A100-SXM4-80GB", "literature-a100"),
            ("A100 80GB PCIe", "literature-a100"),
            ("NVIDIA L40S", "literature-l40s"),
            ("h100x8", "h100"),
            ("cpu", "cpu"),
        ] {
            let read = read(Axis::Hardware, name).map(|value| value.to_string());
            assert_eq!(read, Ok(word.to_owned()), "{name}");
        }
        for name in
            ["NVIDIA GH200 480GB", "H1000", "NVIDIA A10", "L40", "AMD MI300X", "b200", "A100B", "TPU v5"]
        {
            assert_eq!(read(Axis::Hardware, name), Err(None), "{name}");
        }
        let pcie = read(Axis::Hardware, "NVIDIA H100 PCIe").unwrap_err().unwrap();
        assert!(pcie.contains("114 multiprocessors"), "{pcie}");
    }

    #[test]
    fn other_words_are_read_and_what_is_not_said_is_nothing() {
        let text = |axis, word| read(axis, word).map(|value| value.to_string()).ok();
        assert_eq!(text(Axis::Attention, "FlashAttention-2").as_deref(), Some("flash_attention_2"));
        assert_eq!(text(Axis::Attention, "SDPA").as_deref(), Some("sdpa"));
        assert_eq!(text(Axis::Dtype, "torch.bfloat16").as_deref(), Some("bf16"));
        assert_eq!(text(Axis::BatchSize, "eight"), None);
        for word in ["none", "None", "fp16", "bfloat16", "", "not stated", "unquantized"] {
            assert!(is_unquantized(word), "{word}");
        }
        for word in ["awq", "gptq", "int8", "fp8", "gguf-q4_k"] {
            assert!(!is_unquantized(word), "{word}");
        }
        assert!(says_nothing("not stated") && says_nothing("N/A") && !says_nothing("none"));
    }
}
