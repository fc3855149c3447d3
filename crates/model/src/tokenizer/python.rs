//! What of Python shows in a chat template's text: values printed by `str` and `repr`, methods of strings.
//!
//! Templates are written for Jinja, whose values are Python's. Left out: tuples, which print as lists; methods that no
//! known template calls, which are refused as unknown.

use std::fmt::Write as _;

use minijinja::value::ValueKind;
use minijinja::{Error, Output, State, Value};

/// A method of a value, as Python has it.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), name, args) {
        (Some(text), "title", []) => Ok(Value::from(title(text))),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// `str.title`: a cased character is upper case behind one without case, and lower case behind one with.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            let mut upper = c.to_uppercase();
            out.extend(upper.next());
            out.extend(upper.flat_map(char::to_lowercase));
        }
        inside = c.is_lowercase() || c.is_uppercase();
    }
    out
}

/// Writes a value that a template prints.
pub(super) fn print(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::String => out.write_str(value.as_str().unwrap_or_default()).map_err(Error::from),
        _ => out.write_str(&text(value)).map_err(Error::from),
    }
}

/// `str` of a value.
pub(super) fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::String | ValueKind::Undefined => value.to_string(),
        _ => repr(value),
    }
}

/// `repr` of a value.
fn repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map(|items| items.map(|item| repr(&item)).collect::<Vec<_>>());
            format!("[{}]", items.unwrap_or_default().join(", "))
        }
        ValueKind::Map => {
            let pair = |key: Value| {
                let of = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", repr(&key), repr(&of))
            };
            let items = value.try_iter().map(|keys| keys.map(pair).collect::<Vec<_>>());
            format!("{{{}}}", items.unwrap_or_default().join(", "))
        }
        _ => value.to_string(),
    }
}

/// A string as Python writes it: in single quotes, unless it holds some and no double ones.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if is_hidden(c) => {
                let code = u32::from(c);
                // Strings take all.
                _ = match code {
                    0..=0xFF => write!(out, "\\x{code:02x}"),
                    0x100..=0xFFFF => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Whether Python writes the character as an escape: controls, formats, separators but the space, private use.
/// *Source:* `str.isprintable` of Python 3.11, without what Unicode assigns nothing to.
const fn is_hidden(c: char) -> bool {
    matches!(c as u32,
        0..=0x1F | 0x7F..=0xA0 | 0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890 | 0x891 | 0x8E2 | 0x1680
        | 0x180E | 0x2000..=0x200F | 0x2028..=0x202F | 0x205F..=0x2064 | 0x2066..=0x206F | 0x3000
        | 0xE000..=0xF8FF | 0xFEFF | 0xFFF9..=0xFFFB | 0x110BD | 0x110CD | 0x13430..=0x1343F
        | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0001 | 0xE0020..=0xE007F | 0xF0000..=0x10FFFF)
}
