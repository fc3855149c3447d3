//! Chat templates: Jinja programs that come with a model, rendered as transformers renders them.
//!
//! A template is input: it gets neither files nor a clock, and a bounded number of steps. What is not bounded
//! is the memory of a string that a template doubles over and over; minijinja has no limit for it.
//! *Source:* `_compile_jinja_template` of transformers `utils/chat_template_utils.py` (4.57).

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, context};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{day, python};
use crate::checkpoint::LARGEST_JSON;
use crate::error::{ModelError, present, read_small, shown, shown_path};

/// Instructions a template may run: templates of known models need a few hundred per message.
const FUEL: u64 = 5_000_000;
/// Longest template that is compiled; the longest known ones have some 20 kB.
const LONGEST: usize = 1 << 20;
/// One turn of a conversation.
///
/// Example: [`crate::Tokenizer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A compiled template with the tokens it may name.
pub(super) struct Template {
    file: String,
    environment: Environment<'static>,
    /// Special tokens that the model has, by their names.
    tokens: Vec<(String, String)>,
}

impl Template {
    pub(super) fn new(
        file: String,
        source: String,
        tokens: Vec<(String, String)>,
    ) -> Result<Self, ModelError> {
        if source.len() > LONGEST {
            let fault = format!("{} bytes are too long for a template", source.len());
            return Err(ModelError::damaged(&file, "chat template", fault));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| fault(&file, &e))?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(python::method);
        environment.set_formatter(python::print);
        environment.add_filter("string", |value: minijinja::Value| python::text(&value));
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| {
            day::formatted(&format).map_err(|code| {
                Error::new(ErrorKind::BadSerialization, format!("strftime has no code '{code}'"))
            })
        });
        environment.add_filter("tojson", tojson);
        // Jinja's None is not iterable; templates ask before they count an absent list of tools.
        environment.add_test("iterable", |value: &minijinja::Value| {
            !value.is_none() && (value.as_str().is_some() || value.try_iter().is_ok())
        });
        environment
            .add_template_owned("chat", without_generation_marks(source))
            .map_err(|e| fault(&file, &e))?;
        Ok(Self { file, environment, tokens })
    }

    pub(super) fn render(&self, messages: &[Message], generate: bool) -> Result<String, ModelError> {
        let template = self.environment.get_template("chat").map_err(|e| fault(&self.file, &e))?;
        let turns: Vec<_> = messages
            .iter()
            .map(|m| minijinja::Value::from_pairs([("role", m.role.as_str()), ("content", &m.content)]))
            .collect();
        // transformers hands over the special tokens that exist and nothing for those that do not.
        let tokens = minijinja::Value::from_pairs(
            self.tokens.iter().map(|(name, text)| (name.as_str(), text.as_str())),
        );
        template
            .render(context! {
                messages => turns,
                add_generation_prompt => generate,
                tools => minijinja::Value::from(()),
                documents => minijinja::Value::from(()),
                ..tokens
            })
            .map_err(|e| fault(&self.file, &e))
    }
}

/// transformers lets templates mark the assistant's words with `{% generation %}` blocks; rendering ignores
/// the marks. Blocks that are always taken keep their white space control.
fn without_generation_marks(source: String) -> String {
    if !source.contains("generation") {
        return source;
    }
    let mut out = String::with_capacity(source.len());
    for (number, piece) in source.split("{%").enumerate() {
        if number == 0 {
            out.push_str(piece);
            continue;
        }
        out.push_str("{%");
        let tag = piece.split_once("%}").map_or(piece, |(tag, _)| tag);
        match tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" => out.push_str(&piece.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&piece.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(piece),
        }
    }
    out
}

fn fault(file: &str, error: &Error) -> ModelError {
    let line = error.line().map_or(String::new(), |line| format!(" (template line {line})"));
    let remedy = match error.kind() {
        ErrorKind::InvalidOperation => "use the roles and order of messages that the model knows",
        _ => "record without a chat template",
    };
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    ModelError::Template { file: file.to_owned(), fault: format!("{}{line}", shown(&what)), remedy }
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=…)`: unlike Jinja's own filter, nothing is escaped
/// for HTML and separators are followed by a space.
#[expect(clippy::needless_pass_by_value, reason = "the shape of a filter that minijinja calls")]
fn tojson(value: minijinja::Value, options: Kwargs) -> Result<String, Error> {
    let failed = |e: serde_json::Error| Error::new(ErrorKind::BadSerialization, e.to_string());
    let indent: Option<usize> = options.get("indent")?;
    let mut out = Vec::new();
    match indent {
        Some(width) => {
            let pad = vec![b' '; width.min(16)];
            let pretty = serde_json::ser::PrettyFormatter::with_indent(&pad);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, pretty)).map_err(failed)?;
        }
        None => {
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)).map_err(failed)?;
        }
    }
    String::from_utf8(out).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

/// Python's default separators `", "` and `": "`.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

/// The template of a Hugging Face folder: `chat_template.jinja`, else in `settings`, which is `tokenizer_config.json`.
pub(super) fn from_folder(
    folder: &Path,
    settings: &Map<String, Value>,
    tokens: Vec<(String, String)>,
) -> Result<Option<Template>, ModelError> {
    let (file, source) = if let Some(path) = present(folder, "chat_template.jinja") {
        let bytes = read_small(&path, LARGEST_JSON)?;
        let file = shown_path(&path);
        let text =
            String::from_utf8(bytes).map_err(|_| ModelError::damaged(&file, "chat template", "not UTF-8"))?;
        (file, text)
    } else {
        let file = shown_path(&folder.join("tokenizer_config.json"));
        // One template, or several of which the one named "default" is used.
        let source = match settings.get("chat_template") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(source)) => Some(source.as_str()),
            Some(Value::Array(list)) => list
                .iter()
                .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
                .and_then(|entry| entry.get("template")?.as_str()),
            Some(_) => None,
        };
        let Some(source) = source else {
            return Err(ModelError::damaged(&file, "chat_template", "neither a text nor a list of them"));
        };
        (file, source.to_owned())
    };
    Template::new(file, source, tokens).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> Result<Template, ModelError> {
        Template::new("t.jinja".into(), source.into(), vec![("bos_token".into(), "<s>".into())])
    }

    fn render(source: &str) -> Result<String, ModelError> {
        let messages = [Message::new("user", "a <b> \"c\" é"), Message::new("assistant", " x ")];
        template(source)?.render(&messages, true)
    }

    #[test]
    fn renders_as_transformers_does() {
        // Expected texts are those of transformers' Jinja environment.
        for (source, want) in [
            ("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "a <b> \"c\" é"}"#),
            ("{{ [1, 2] | tojson(indent=2) }}", "[\n  1,\n  2\n]"),
            ("{{ bos_token }}|{{ eos_token }}", "<s>|"),
            (
                "{% for m in messages[::-1] %}\n  {% if loop.first %}\n{{ m.role }}\n{% endif %}\n{% endfor %}",
                "assistant\n",
            ),
            ("{{ messages[1].content.strip().upper() }}", "X"),
            (
                "{{ [none, true, 1.5, 'it\\'s', {'a': false}] }} {{ none }} {{ true | string }}",
                "[None, True, 1.5, \"it's\", {'a': False}] None True",
            ),
            ("{{ 'it\\'s ▁lower 3rd ßa'.title() }}", "It'S ▁Lower 3Rd Ssa"),
            ("{{ messages[0]['content'].split('<')[-1] }}", "b> \"c\" é"),
            (
                "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
                "2",
            ),
            ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
            ("{{ strftime_now('%-I:%M %p, day %j%%') }}", "12:00 AM, day 208%"),
            ("{{ strftime_now('%Q') }}", "!"),
            ("{% if tools %}t{% endif %}{% if enable_thinking is defined %}e{% endif %}.", "."),
            ("{% if tools is iterable and tools | length > 0 %}t{% endif %}.", "."),
            ("a {%- generation -%} b {% endgeneration %}{{ 'generation' }}", "ab generation"),
            ("{% generation %}", "!"),
        ] {
            match render(source) {
                Ok(text) => assert_eq!(text, want, "{source}"),
                Err(e) => assert_eq!("!", want, "{e}"),
            }
        }
    }

    #[test]
    fn refusals_and_endless_templates_are_one_line() {
        let e = render("{{ raise_exception('roles must\nalternate') }}").unwrap_err().to_string();
        assert_eq!(
            e,
            "t.jinja: chat template: roles must\\nalternate (template line 1); use the roles and order of messages that the model knows"
        );
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
        let e = render(endless).unwrap_err().to_string();
        assert!(e.contains("fuel"), "{e}");
        let e = template("{% for %}").err().unwrap().to_string();
        assert!(e.starts_with("t.jinja: chat template: ") && !e.contains('\n'), "{e}");
        assert!(render("{{ 'x' * 99999999999 }}").is_err());
        assert!(render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").is_err());
    }
}
