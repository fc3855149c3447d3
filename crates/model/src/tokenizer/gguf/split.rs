//! How byte-level BPE of a GGUF file splits a text before merging: the rules that `tokenizer.ggml.pre` names.
//!
//! A rule is a list of patterns; each splits the pieces that the ones before it left. *Source:* the names and their
//! rules in llama.cpp `src/llama-vocab.cpp` (2026-11); where llama.cpp rewrote the pattern of a model's
//! `tokenizer.json` because its regular expressions lack something, the model's own stands here.
//! Left out: rules that are no patterns (`kimi-k2`, `afmoe`, `superbpe`) or are not byte-level (`gemma4`), and those of
//! encoders; they are refused by name.

/// What a rule name stands for.
#[derive(Clone, Copy)]
pub(super) struct Split {
    /// Applied one after the other.
    pub(super) patterns: &'static [&'static str],
    /// Whether a piece that is a token itself is not merged from its parts.
    pub(super) ignore_merges: bool,
    /// Whether texts begin with a token unless the file says otherwise.
    pub(super) adds_bos: bool,
    /// Whether the text is brought into Unicode's form C first, as the `tokenizer.json` of Qwen says.
    pub(super) composes: bool,
}

const fn by(patterns: &'static [&'static str]) -> Split {
    Split { patterns, ignore_merges: false, adds_bos: false, composes: false }
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|",
    r"\s+(?!\S)|\s+",
);
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|",
    r"'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|",
    r"'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const JAIS2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|",
    r"\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}",
);
const DEEPSEEK3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"##,
    r##" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
);
/// Letters with cases, as the tokenizer of DeepSeek LLM lists them.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[",
    r"\x{41}-\x{5A}\x{61}-\x{7A}\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}",
    r"\x{1C4}-\x{293}\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}",
    r"\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}",
    r"\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}",
    r"\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}",
    r"\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}",
    r"\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}",
    r"\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}",
    r"\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}",
    r"\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}",
    r"\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}",
    r"\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}",
    r"\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}",
    r"\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}",
    r"]+"
);
const DEEPSEEK_MARKS: &str =
    r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+";
const HAN_TO_HANGUL: &str = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+";
const BLOOM: &str = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+";
const BAILING: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|",
    r"\s+(?!\S)|\s+",
);
const SEED: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|",
    r"\s+(?!\S)|\s+",
);
const EXAONE_MOE: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
);
const MINICPM5: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|",
    r"\s+(?!\S)|\s+",
);

const PLAIN: Split = by(&[GPT2]);
const DIGITS: Split = by(&[r"\p{N}", GPT2]);
const THREES: Split = by(&[LLAMA3]);
const ONES: Split = by(&[QWEN2]);
const QWEN: Split = Split { composes: true, ..ONES };
const LLAMA: Split = Split { ignore_merges: true, adds_bos: true, ..THREES };
const CASES: Split = by(&[GPT4O]);
const DEEPSEEK_V3: Split =
    by(&[r"\p{N}{1,3}", r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+", DEEPSEEK3]);

/// What llama.cpp does with a file that names no rule, or this one.
pub(super) const DEFAULT: &str = "default";

/// Rules by their names, in alphabetical order.
const RULES: &[(&str, Split)] = &[
    ("a.x-4.0", PLAIN),
    ("bailingmoe", by(&[BAILING])),
    ("bailingmoe2", by(&[BAILING])),
    ("bloom", by(&[BLOOM])),
    ("chatglm-bpe", THREES),
    ("codeshell", DIGITS),
    ("command-r", DIGITS),
    ("dbrx", THREES),
    ("deepseek-coder", by(&["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN_TO_HANGUL, r"\p{N}"])),
    ("deepseek-llm", by(&["[\r\n]", DEEPSEEK_LETTERS, DEEPSEEK_MARKS, r"\s+$", HAN_TO_HANGUL, r"\p{N}+"])),
    ("deepseek-r1-qwen", QWEN),
    ("deepseek-v3", DEEPSEEK_V3),
    (DEFAULT, by(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"])),
    ("exaone", DIGITS),
    ("exaone-moe", by(&[EXAONE_MOE])),
    ("exaone4", PLAIN),
    ("f2llmv2", ONES),
    ("falcon", by(&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"])),
    ("falcon-h1", LLAMA),
    ("falcon3", LLAMA),
    ("gigachat", PLAIN),
    ("glm4", THREES),
    ("gpt-2", PLAIN),
    ("gpt-4o", CASES),
    ("gpt2", PLAIN),
    ("gpt3-finnish", by(&[BLOOM])),
    ("granite-docling", PLAIN),
    ("grok-2", ONES),
    ("hunyuan", ONES),
    ("hunyuan-dense", DEEPSEEK_V3),
    ("hy_v4", DEEPSEEK_V3),
    ("jais", PLAIN),
    ("jais-2", by(&[JAIS2])),
    ("joyai-llm", DEEPSEEK_V3),
    ("kanana2", CASES),
    ("kormo", ONES),
    ("laguna", by(&[r"[^\n]+|[\n]+", QWEN2])),
    ("lfm2", LLAMA),
    ("llada-moe", by(&[BAILING])),
    ("llama-bpe", LLAMA),
    ("llama-v3", LLAMA),
    ("llama3", LLAMA),
    ("llama4", CASES),
    ("megrez", ONES),
    ("mellum", PLAIN),
    ("mellum2", DIGITS),
    ("midm-2.0", LLAMA),
    ("minerva-7b", DIGITS),
    ("minicpm5", Split { ignore_merges: true, ..by(&[r"\p{N}{1,3}", MINICPM5]) }),
    ("minimax-m2", CASES),
    ("modern-bert", PLAIN),
    ("mpt", PLAIN),
    ("olmo", PLAIN),
    ("phi-2", PLAIN),
    ("pixtral", LLAMA),
    ("poro-chat", by(&[BLOOM])),
    ("qwen2", QWEN),
    ("qwen35", Split { composes: true, ..by(&[QWEN35]) }),
    ("refact", DIGITS),
    ("seed-coder", by(&[SEED])),
    ("smaug-bpe", THREES),
    ("smollm", DIGITS),
    ("solar-open", ONES),
    ("stablelm2", ONES),
    ("starcoder", DIGITS),
    ("talkie", CASES),
    ("tekken", Split { ignore_merges: true, adds_bos: true, ..by(&[TEKKEN]) }),
    ("trillion", PLAIN),
    ("viking", by(&[BLOOM, r"\p{N}"])),
];

/// The rule of that name.
pub(super) fn rule(name: &str) -> Option<Split> {
    RULES.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule)
}

/// All names, for an error.
pub(super) fn names() -> String {
    RULES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pattern is one that the library takes; names are in order, each once.
    #[test]
    fn every_rule_compiles() {
        assert!(RULES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (name, rule) in RULES {
            for pattern in rule.patterns {
                let json = serde_json::json!({
                    "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false,
                });
                let made = serde_json::from_value::<tokenizers::PreTokenizerWrapper>(json);
                assert!(made.is_ok(), "{name}: {pattern}");
            }
        }
    }
}
