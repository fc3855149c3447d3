//! `strftime_now` of chat templates on a fixed day: Friday, 26 July 2024, midnight.
//!
//! Llama templates fall back to that day themselves. A clock would make the prompt, and so every recorded bit, depend
//! on when a run was resumed. *Source:* `datetime.strftime` of CPython over glibc in the C locale, which transformers
//! calls: the codes of both, glibc's flags `-`, `_`, `0`, `^` and `#`, and the modifiers `E` and `O`.

/// What pads a number to its width.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pad {
    Zero,
    Space,
}

/// A field: a number with its width, or a text.
enum Field {
    Number(u32, usize, Pad),
    Text(&'static str),
}

/// `format` on that day. *Errors:* the code that is none, as written.
pub(super) fn formatted(format: &str) -> Result<String, String> {
    let mut out = String::with_capacity(format.len());
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut code, mut pad, mut upper, mut swapped) = (rest.next(), None, false, false);
        let mut written = String::from('%');
        while let Some(flag @ ('-' | '_' | '0' | '^' | '#')) = code {
            written.push(flag);
            match flag {
                '^' => upper = true,
                '#' => swapped = true,
                other => pad = Some(other),
            }
            code = rest.next();
        }
        let modifier = code.filter(|code| matches!(code, 'E' | 'O'));
        if let Some(modifier) = modifier {
            written.push(modifier);
            code = rest.next();
        }
        let Some(code) = code else { return Err(written) };
        written.push(code);
        // Microseconds are Python's own, and only where nothing stands between.
        if !modifies(modifier, code) || (code == 'f' && written.len() > 2) {
            return Err(written);
        }
        let text = match field(code).ok_or(written)? {
            Field::Text(text) => text.to_owned(),
            Field::Number(number, width, by) => match (pad, by) {
                (Some('-'), _) => number.to_string(),
                (Some('_'), _) | (None, Pad::Space) => format!("{number:>width$}"),
                _ => format!("{number:0>width$}"),
            },
        };
        out.push_str(&match code {
            // Lower case whatever is asked.
            'P' => text,
            'p' if swapped => text.to_lowercase(),
            'a' | 'A' | 'b' | 'B' | 'h' if swapped => text.to_uppercase(),
            _ if upper => text.to_uppercase(),
            _ => text,
        });
    }
    Ok(out)
}

/// Whether glibc knows the code behind `E` or `O`, neither of which changes anything in the C locale.
fn modifies(modifier: Option<char>, code: char) -> bool {
    match modifier {
        Some('E') => "cCnpPrRstTuxXyYzZ%".contains(code),
        Some(_) => "bBCdeghGHIjklmMnpPrRsStTuUVwWyzZ%".contains(code),
        None => true,
    }
}

fn field(code: char) -> Option<Field> {
    use Field::{Number, Text};
    Some(match code {
        'a' => Text("Fri"),
        'A' => Text("Friday"),
        'b' | 'h' => Text("Jul"),
        'B' => Text("July"),
        'c' => Text("Fri Jul 26 00:00:00 2024"),
        'C' => Number(20, 2, Pad::Zero),
        'd' => Number(26, 2, Pad::Zero),
        'D' | 'x' => Text("07/26/24"),
        'e' => Number(26, 2, Pad::Space),
        'f' => Text("000000"),
        'F' => Text("2024-07-26"),
        'g' | 'y' => Number(24, 2, Pad::Zero),
        'G' | 'Y' => Number(2024, 4, Pad::Zero),
        'H' | 'M' | 'S' => Number(0, 2, Pad::Zero),
        'I' => Number(12, 2, Pad::Zero),
        'j' => Number(208, 3, Pad::Zero),
        'k' => Number(0, 2, Pad::Space),
        'l' => Number(12, 2, Pad::Space),
        'm' => Number(7, 2, Pad::Zero),
        'n' => Text("\n"),
        'p' => Text("AM"),
        'P' => Text("am"),
        'r' => Text("12:00:00 AM"),
        'R' => Text("00:00"),
        // Seconds since 1970 where the clock shows UTC.
        's' => Number(1_721_952_000, 1, Pad::Zero),
        't' => Text("\t"),
        'T' | 'X' => Text("00:00:00"),
        'u' | 'w' => Number(5, 1, Pad::Zero),
        'U' => Number(29, 2, Pad::Zero),
        'V' | 'W' => Number(30, 2, Pad::Zero),
        // A `datetime` without a zone has neither name nor offset.
        'z' | 'Z' => Text(""),
        '%' => Text("%"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `goldens/strftime.py` printed by Python 3.11 over glibc 2.36.
    #[test]
    fn every_code_is_pythons() {
        let golden = include_str!("../../../../goldens/strftime.txt");
        assert!(golden.lines().count() > 600);
        for line in golden.lines() {
            let (format, want) = line.split_once('\t').expect("two columns");
            match formatted(format) {
                Ok(text) => assert_eq!(text, want.replace("\\n", "\n").replace("\\t", "\t"), "{format}"),
                Err(written) => assert_eq!((written.as_str(), want), (format, "!")),
            }
        }
    }

    #[test]
    fn what_is_no_code_is_refused_as_written() {
        for (format, code) in
            [("%Q", "%Q"), ("%-", "%-"), ("%", "%"), ("%EÄ", "%EÄ"), ("%5d", "%5"), ("%:z", "%:")]
        {
            assert_eq!(formatted(&format!("a {format}")), Err(code.to_owned()));
        }
    }
}
