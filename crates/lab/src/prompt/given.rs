//! Prompts as they are: plain texts, chat messages or token ids, from a file of one or of many.
//!
//! The name of the file says how it is read: `.jsonl` holds a prompt a line, `.json` one or a list of them, anything
//! else is one plain text, byte for byte but for a byte order mark. In JSON a prompt is a text, a list of token ids, a
//! list of messages, or an object with one of `text` (`prompt`), `ids` (`prompt_token_ids`) or `messages`; beside
//! `messages`, `add_generation_prompt` says whether the model's turn is opened (it is unless said otherwise).
//!
//! Left out: what is fed for them ([`super::taken`]); tools, and contents that are no texts.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use mantissa_model::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fault::PromptFault;
use crate::document::MAX_FILE_BYTES;
use crate::error::LabError;

/// Prompts that are not cut from documents.
///
/// ```
/// use mantissa_lab::prompt::given::{Content, Given, GivenPrompt};
/// use mantissa_lab::prompt::taken;
/// use mantissa_model::{Arch, Tokenizer, synth::{SynthSpec, write}};
///
/// # let folder = tempfile::tempdir()?;
/// write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
/// let tokenizer = Tokenizer::open(folder.path())?;
/// let given = |name: &str, ids: Vec<u32>| {
///     GivenPrompt { name: name.to_owned(), file_blake3: String::new(), content: Content::Ids(ids) }
/// };
/// let pair = Given { references: vec![given("a", vec![1, 2]), given("b", vec![3, 4])], neighbours: Vec::new() };
/// let set = taken::set(&pair, 1, &tokenizer)?;
/// assert_eq!(set.neighbours[0][0].ids, [3, 4], "the other one");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Those that are measured.
    pub references: Vec<GivenPrompt>,
    /// Those beside each of them; if there are none, the other references, from the next one on.
    pub neighbours: Vec<GivenPrompt>,
}

impl Given {
    /// Whether all of them are ids, which need no tokenizer.
    ///
    /// ```
    /// use mantissa_lab::prompt::given::{Content, Given, GivenPrompt};
    ///
    /// let given = |content| GivenPrompt { name: "a".to_owned(), file_blake3: String::new(), content };
    /// let ids = given(Content::Ids(vec![1, 2]));
    /// let text = given(Content::Text("a text".to_owned()));
    /// assert!(Given { references: vec![ids.clone()], neighbours: Vec::new() }.are_ids());
    /// assert!(!Given { references: vec![ids], neighbours: vec![text] }.are_ids());
    /// ```
    #[must_use]
    pub fn are_ids(&self) -> bool {
        let mut all = self.references.iter().chain(&self.neighbours);
        all.all(|prompt| matches!(prompt.content, Content::Ids(_)))
    }
}

/// A prompt as it was given.
///
/// Example: [`read`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenPrompt {
    /// The file, with the place of the prompt if it holds several.
    pub name: String,
    /// Digest of the file, hexadecimal.
    pub file_blake3: String,
    /// The prompt itself.
    pub content: Content,
}

/// What a prompt was given as.
///
/// Example: [`read`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A plain text.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
    /// A conversation.
    Messages {
        /// Its turns.
        messages: Vec<Message>,
        /// Whether the model's turn is opened.
        generate: bool,
    },
}

/// Reads the prompts of a file.
///
/// ```
/// use mantissa_lab::prompt::given::{Content, read};
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("prompts.jsonl");
/// std::fs::write(&path, "[1, 2, 3]\n{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n\"a text\"\n")?;
/// let prompts = read(&path)?;
/// assert_eq!(prompts[0].content, Content::Ids(vec![1, 2, 3]));
/// assert!(prompts[1].name.ends_with("prompts.jsonl:2"));
/// assert_eq!(prompts[2].content, Content::Text("a text".to_owned()));
/// std::fs::write(&path, "[1, -2]\n")?;
/// assert!(read(&path).is_err_and(|error| error.to_string().contains("prompts.jsonl:1: ")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: &Path) -> Result<Vec<GivenPrompt>, LabError> {
    let (name, file_blake3, bytes) = bytes_of(path)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let remedy = "give a PDF with --document; convert other texts with `iconv -f … -t UTF-8`";
        fault(&name, format!("not UTF-8 at byte {offset}"), remedy)
    })?;
    let given = |name: String, content| GivenPrompt { name, file_blake3: file_blake3.clone(), content };
    let prompts: Vec<GivenPrompt> = match form(path) {
        Form::Text => vec![given(name.clone(), Content::Text(text))],
        Form::Lines => lines(&text)
            .map(|(number, line)| {
                let name = format!("{name}:{number}");
                let content = json(&name, line, PLAIN_TEXT).and_then(|value| prompt_of(&name, value))?;
                Ok(given(name, content))
            })
            .collect::<Result<_, LabError>>()?,
        Form::Json => match json(&name, &text, PLAIN_TEXT)? {
            Value::Array(list) if list.iter().any(is_prompt) => (1..)
                .zip(list)
                .map(|(number, value)| {
                    let name = format!("{name}[{number}]");
                    prompt_of(&name, value).map(|content| given(name, content))
                })
                .collect::<Result<_, LabError>>()?,
            value => vec![given(name.clone(), prompt_of(&name, value)?)],
        },
    };
    let blank = |prompt: &GivenPrompt| match &prompt.content {
        Content::Text(text) => text.is_empty(),
        Content::Ids(ids) => ids.is_empty(),
        Content::Messages { messages, .. } => messages.is_empty(),
    };
    match prompts.iter().find(|prompt| blank(prompt)) {
        Some(prompt) => Err(fault(&prompt.name, "an empty prompt".to_owned(), "give it some content")),
        None if prompts.is_empty() => Err(fault(&name, "no prompt".to_owned(), "give at least one")),
        None => Ok(prompts),
    }
}

/// Reads lists of token ids: one, or one for each prompt. A JSON list, a list of lists, or a list a line; numbers
/// between blanks are one list.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("forced.jsonl");
/// std::fs::write(&path, "[1, 2]\n[3, 4]\n")?;
/// assert_eq!(mantissa_lab::prompt::given::read_ids(&path)?, [[1, 2], [3, 4]]);
/// std::fs::write(&path, "[1, \"x\"]\n")?;
/// assert!(mantissa_lab::prompt::given::read_ids(&path).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_ids(path: &Path) -> Result<Vec<Vec<u32>>, LabError> {
    let (name, _, bytes) = bytes_of(path)?;
    let remedy = "give a JSON list of whole numbers, or a list of such lists";
    let text = String::from_utf8(bytes).map_err(|_| fault(&name, "not UTF-8".to_owned(), remedy))?;
    let lists = if matches!(form(path), Form::Lines) {
        lines(&text)
            .map(|(number, line)| {
                let name = format!("{name}:{number}");
                json(&name, line, remedy).and_then(|value| ids_of(&name, &value))
            })
            .collect::<Result<Vec<_>, _>>()?
    } else if text.trim_start().starts_with('[') {
        match json(&name, &text, remedy)? {
            Value::Array(lists) if lists.iter().any(Value::is_array) => (1..)
                .zip(&lists)
                .map(|(number, list): (usize, _)| ids_of(&format!("{name}[{number}]"), list))
                .collect::<Result<_, _>>()?,
            list => vec![ids_of(&name, &list)?],
        }
    } else {
        let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
        let number = |word: &str| {
            let shown: String = word.chars().take(40).flat_map(char::escape_debug).collect();
            word.parse()
                .map_err(|_| fault(&name, format!("'{shown}' is not a token id"), "give whole numbers"))
        };
        vec![words.map(number).collect::<Result<_, _>>()?]
    };
    if lists.is_empty() || lists.iter().any(Vec::is_empty) {
        return Err(fault(&name, "no token ids".to_owned(), "give a list of them"));
    }
    Ok(lists)
}

const PLAIN_TEXT: &str = "complete it, or give a plain text as a .txt file";
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How a file is read.
enum Form {
    Text,
    Json,
    Lines,
}

fn form(path: &Path) -> Form {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    match extension.as_deref() {
        Some("jsonl" | "ndjson") => Form::Lines,
        Some("json") => Form::Json,
        _ => Form::Text,
    }
}

/// Lines that are not blank, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty())
}

/// A file's name for people, its digest, and its bytes without a byte order mark.
fn bytes_of(path: &Path) -> Result<(String, String, Vec<u8>), LabError> {
    let name = crate::document::one_line(&path.display().to_string());
    let read = |source| LabError::DocumentRead { document: name.clone(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(read)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(LabError::DocumentTooLarge { document: name, limit: MAX_FILE_BYTES });
    }
    crate::document::refuse_pointer(&name, &bytes)?;
    let file_blake3 = blake3::hash(&bytes).to_hex().to_string();
    // The mark that some editors begin a file with is no part of a prompt.
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok((name, file_blake3, bytes))
}

fn json(name: &str, text: &str, remedy: &'static str) -> Result<Value, LabError> {
    serde_json::from_str(text).map_err(|error| fault(name, format!("not JSON ({error})"), remedy))
}

/// Whether a member of a list is a prompt: a member of a list of ids or of messages is none.
fn is_prompt(value: &Value) -> bool {
    match value {
        Value::String(_) | Value::Array(_) => true,
        Value::Object(object) => !object.contains_key("role"),
        _ => false,
    }
}

fn prompt_of(name: &str, value: Value) -> Result<Content, LabError> {
    const KEYS: [&str; 5] = ["text", "prompt", "ids", "prompt_token_ids", "messages"];
    match value {
        Value::String(text) => Ok(Content::Text(text)),
        Value::Array(list) if list.first().is_some_and(Value::is_object) => messages(name, &list, true),
        Value::Array(_) => Ok(Content::Ids(ids_of(name, &value)?)),
        Value::Object(object) => {
            let opens = object.get("add_generation_prompt").map_or(Some(true), Value::as_bool);
            let more = |key: &&String| !KEYS.contains(&key.as_str()) && *key != "add_generation_prompt";
            if let Some(key) = object.keys().find(more) {
                return Err(unread(name, key, &KEYS));
            }
            let mut named = object.iter().filter(|(key, _)| KEYS.contains(&key.as_str()));
            match (named.next(), named.next(), opens) {
                (Some((key, Value::String(text))), None, _) if key == "text" || key == "prompt" => {
                    Ok(Content::Text(text.clone()))
                }
                (Some((key, value)), None, _) if key == "ids" || key == "prompt_token_ids" => {
                    Ok(Content::Ids(ids_of(name, value)?))
                }
                (Some((key, Value::Array(list))), None, Some(opens)) if key == "messages" => {
                    messages(name, list, opens)
                }
                _ => Err(fault(
                    name,
                    "not one of a text, ids and messages".to_owned(),
                    "give one of the keys text, ids and messages",
                )),
            }
        }
        _ => {
            let what = "neither a text, nor token ids, nor messages".to_owned();
            Err(fault(name, what, "give one of them, as `mantissa record --help` shows"))
        }
    }
}

fn ids_of(name: &str, value: &Value) -> Result<Vec<u32>, LabError> {
    let wrong = |shown: String| fault(name, format!("{shown} is not a token id"), "give whole numbers");
    let Some(list) = value.as_array() else { return Err(wrong(short(value))) };
    let id = |value: &Value| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| wrong(short(value)))
    };
    list.iter().map(id).collect()
}

fn messages(name: &str, list: &[Value], generate: bool) -> Result<Content, LabError> {
    let message = |(number, value): (usize, &Value)| {
        let place = format!("{name}: message {number}");
        let no = Map::new();
        let object = value.as_object().unwrap_or(&no);
        if let Some(key) = object.keys().find(|key| *key != "role" && *key != "content") {
            return Err(unread(&place, key, &["role", "content"]));
        }
        match (object.get("role"), object.get("content")) {
            (Some(Value::String(role)), Some(Value::String(content))) => {
                Ok(Message::new(role.as_str(), content.as_str()))
            }
            _ => Err(fault(&place, "role and content are not both texts".to_owned(), "give both as texts")),
        }
    };
    let messages = (1..).zip(list).map(message).collect::<Result<_, _>>()?;
    Ok(Content::Messages { messages, generate })
}

/// A key that would be left out of the prompt without a word.
fn unread(name: &str, key: &str, known: &[&str]) -> LabError {
    let key: String = key.chars().take(40).flat_map(char::escape_debug).collect();
    let known = known.join(", ");
    let remedy = "remove it, or render the text yourself and give it as a .txt file";
    fault(name, format!("the key '{key}' is not read, only {known}"), remedy)
}

/// A JSON value, cut short.
fn short(value: &Value) -> String {
    let text = value.to_string();
    let mut shown: String = text.chars().take(40).collect();
    if text.chars().nth(40).is_some() {
        shown.push('…');
    }
    shown
}

fn fault(name: &str, fault: String, remedy: &'static str) -> LabError {
    PromptFault::Given { prompt: name.to_owned(), fault, remedy }.into()
}
