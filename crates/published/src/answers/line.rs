//! Answers out of JSON: completions and chats, whole or in the chunks of a stream.

use mantissa_evidence::error::Flaw;
use serde_json::{Map, Value};

use mantissa_evidence::Decoding;
use mantissa_numerics::Generation;

use super::prompt::PromptRows;
use super::token::{Name, Row, ids};

pub(super) const RESTORE: &str = "give the answers as the server wrote them";

/// What an API answered to one request.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// Where it stands in the file.
    pub(super) place: String,
    pub(super) model: String,
    pub(super) fingerprint: Option<String>,
    pub(super) asked: Asked,
    /// Ids that were fed, as the server returns them or as they were sent.
    pub(super) prompt: Option<Vec<u32>>,
    /// What is said of the prompt's own tokens.
    pub(super) prompt_rows: PromptRows,
    temperature: Option<f64>,
    ignore_eos: bool,
    /// Whether the prompt was to stand before the output; unknown without the request.
    echo: Option<bool>,
    /// Tokens of the output that were asked for.
    max_tokens: Option<u64>,
    /// Whether log-probabilities of the prompt's own tokens were asked for.
    pub(super) asked_of_prompt: bool,
    /// Tokens of the prompt, as the server counts them.
    prompt_tokens: Option<usize>,
    pub(super) outputs: Vec<Output>,
}

/// A prompt that was not sent as ids.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Nothing,
    Text(String),
    /// Roles and contents.
    Chat(Vec<(String, String)>),
}

/// One of the outputs of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Output {
    pub(super) ids: Option<Vec<u32>>,
    pub(super) rows: Vec<Row>,
    /// Whether its rows are those of a completion's lists.
    is_completion: bool,
    /// Whether the first token has no log-probability, as the first of a prompt has none.
    begins_with_none: bool,
}

impl Asked {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Text(text) => text.clone(),
            Self::Chat(turns) => {
                let said: Vec<String> = turns.iter().map(|(role, text)| format!("{role}: {text}")).collect();
                said.join("\n")
            }
        }
    }
}

impl Answer {
    /// The configuration, and how its tokens were chosen.
    pub(super) fn choice(&self) -> (String, Decoding, Option<Generation>) {
        let settings = |do_sample| Generation {
            do_sample,
            temperature: self.temperature.filter(|_| do_sample),
            ignore_eos: self.ignore_eos,
            ..Generation::default()
        };
        match self.temperature {
            Some(temperature) if temperature <= 0.0 => {
                (format!("{}, greedy", self.model), Decoding::Greedy, Some(settings(false)))
            }
            Some(_) => (format!("{}, sampled", self.model), Decoding::Sampled, Some(settings(true))),
            None => (self.model.clone(), Decoding::TeacherForced, None),
        }
    }
}

/// Answers in `bytes`; `None` where nothing looks like one.
pub(super) fn answers(bytes: &[u8]) -> Result<Option<Vec<Answer>>, Flaw> {
    let Some(values) = values(bytes)? else { return Ok(None) };
    let mut found: Vec<Answer> = Vec::new();
    // Chunks of a stream that stand alone, by the id of their answer.
    let mut streams: Vec<(String, Vec<Value>)> = Vec::new();
    let mut known = false;
    for (place, value) in values {
        let flaw = |what: &str| Flaw::new(&place, what.to_owned(), RESTORE);
        let Value::Object(object) = &value else {
            return if known { Err(flaw("it is no answer")) } else { Ok(None) };
        };
        let request =
            object.get("request").or_else(|| object.get("body").filter(|_| object.contains_key("response")));
        if is_chunk(object) {
            let id = text(object, "id").unwrap_or_default();
            match streams.iter_mut().find(|(known, _)| *known == id) {
                Some((_, chunks)) => chunks.push(value),
                None => streams.push((id, vec![value])),
            }
        } else if object.contains_key("choices") {
            found.push(answer(&place, std::slice::from_ref(&value), None)?);
        } else if object.contains_key("chunks")
            && object.get("response").is_some_and(|whole| !whole.is_null())
        {
            return Err(flaw("it holds both a response and chunks"));
        } else if let Some(chunks) = object.get("chunks").and_then(Value::as_array) {
            found.push(answer(&place, chunks, request)?);
        } else if let Some(response) = object.get("response") {
            let body = response.get("body").unwrap_or(response);
            if body.get("choices").is_none() {
                return if known { Err(flaw("its response holds no choices")) } else { Ok(None) };
            }
            found.push(answer(&place, std::slice::from_ref(body), request)?);
        } else {
            return if known { Err(flaw("it is no answer")) } else { Ok(None) };
        }
        known = true;
    }
    for (id, chunks) in streams {
        found.push(answer(&format!("stream {id}"), &chunks, None)?);
    }
    Ok(known.then_some(found))
}

/// The values of a file with their places: one, those of a list, or those of lines, which may be events of a stream.
fn values(bytes: &[u8]) -> Result<Option<Vec<(String, Value)>>, Flaw> {
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(bytes.len());
    let is_stream = bytes[start..].starts_with(b"data:");
    if !is_stream && !bytes.get(start).is_some_and(|byte| b"{[".contains(byte)) {
        return Ok(None);
    }
    if let (false, Ok(value)) = (is_stream, serde_json::from_slice::<Value>(bytes)) {
        return Ok(Some(match value {
            Value::Array(list) => {
                (0..).zip(list).map(|(i, value): (usize, _)| (format!("[{i}]"), value)).collect()
            }
            value => vec![("answer".to_owned(), value)],
        }));
    }
    let Ok(whole) = std::str::from_utf8(bytes) else { return Ok(None) };
    let mut found = Vec::new();
    for (number, line) in (1..).zip(whole.lines()) {
        let line = line.trim();
        let line = line.strip_prefix("data:").map_or(line, str::trim_start);
        if line.is_empty() || line == "[DONE]" || line.starts_with(':') || line.starts_with("event:") {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(value) => found.push((format!("line {number}"), value)),
            Err(_) if found.is_empty() => return Ok(None),
            Err(error) => {
                let looks = found.iter().any(|(_, value): &(_, Value)| {
                    ["choices", "response", "chunks"].iter().any(|key| value.get(key).is_some())
                });
                if !looks {
                    return Ok(None);
                }
                return Err(Flaw::new(format!("line {number}"), format!("no JSON ({error})"), RESTORE));
            }
        }
    }
    Ok(Some(found).filter(|found| !found.is_empty()))
}

/// Whether an object is a part of a streamed answer: of a chat by its kind, of a completion by having company.
fn is_chunk(object: &Map<String, Value>) -> bool {
    let kind = text(object, "object").unwrap_or_default();
    let choices = object.get("choices").and_then(Value::as_array);
    let delta = choices.is_some_and(|choices| choices.iter().any(|choice| choice.get("delta").is_some()));
    // A whole completion states its usage; a chunk has none, or stands alone with no choices.
    let parts =
        kind == "text_completion" && object.get("usage").is_none_or(Value::is_null) && choices.is_some();
    kind == "chat.completion.chunk" || delta || (parts && object.contains_key("created"))
}

fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// One answer from its parts: itself, or the chunks of its stream.
fn answer(place: &str, parts: &[Value], request: Option<&Value>) -> Result<Answer, Flaw> {
    let mut found = Answer {
        place: place.to_owned(),
        model: String::new(),
        fingerprint: None,
        asked: Asked::Nothing,
        prompt: None,
        prompt_rows: PromptRows::default(),
        temperature: None,
        ignore_eos: false,
        echo: None,
        max_tokens: None,
        asked_of_prompt: false,
        prompt_tokens: None,
        outputs: Vec::new(),
    };
    let wrong = |what: String| Flaw::new(place, what, RESTORE);
    if let Some(request) = request {
        found.asks(request).map_err(|what| wrong(what.to_owned()))?;
    }
    for part in parts {
        let Value::Object(object) = part else { return Err(wrong("a part is no object".to_owned())) };
        if let Some(error) = object.get("error").filter(|error| !error.is_null()) {
            return Err(wrong(format!("a part of it is an error: {error}")));
        }
        if let Some(model) = text(object, "model") {
            found.model = model;
        }
        found.fingerprint = text(object, "system_fingerprint").or(found.fingerprint);
        found.fed(object.get("prompt_token_ids")).map_err(&wrong)?;
        found.prompt_rows.add(object.get("prompt_logprobs")).map_err(&wrong)?;
        let counted =
            object.get("usage").and_then(|usage| usage.get("prompt_tokens")).and_then(Value::as_u64);
        found.prompt_tokens = counted.and_then(|count| usize::try_from(count).ok()).or(found.prompt_tokens);
        let choices = object.get("choices").and_then(Value::as_array).into_iter().flatten();
        for choice in choices {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
            let index = usize::try_from(index).ok().filter(|index| *index < 4096);
            let index = index.ok_or_else(|| wrong("more choices than anybody asks for".to_owned()))?;
            if found.outputs.len() <= index {
                found.outputs.resize_with(index + 1, Output::default);
            }
            found.fed(choice.get("prompt_token_ids")).map_err(&wrong)?;
            let of_prompt = found.prompt_rows.add(choice.get("prompt_logprobs"));
            of_prompt.map_err(|what| wrong(format!("choices[{index}]: {what}")))?;
            found.outputs[index].add(choice).map_err(|what| wrong(format!("choices[{index}]: {what}")))?;
        }
    }
    found.part_echoes().map_err(|(index, what)| wrong(format!("choices[{index}]: {what}")))?;
    for (index, output) in found.outputs.iter().enumerate() {
        let rows = output.rows.len();
        let shown = output.rows.iter().zip(output.ids.iter().flatten()).enumerate();
        for (place, (row, id)) in shown {
            if matches!(row.token, Name::Id(token) if token != *id) {
                return Err(wrong(format!(
                    "choices[{index}]: {} stands where token_ids[{place}] is {id}",
                    row.token
                )));
            }
        }
        // With max_tokens=0 a token is computed and not shown.
        let is_shown = rows > 0 || (output.begins_with_none && found.max_tokens != Some(0));
        if let Some(ids) = output.ids.as_ref().filter(|ids| ids.len() != rows && is_shown) {
            return Err(wrong(format!(
                "choices[{index}]: {} token ids beside {rows} log-probabilities",
                ids.len()
            )));
        }
    }
    Ok(found)
}

impl Answer {
    /// What was asked.
    fn asks(&mut self, request: &Value) -> Result<(), &'static str> {
        self.temperature = request.get("temperature").and_then(Value::as_f64);
        self.ignore_eos = request.get("ignore_eos").and_then(Value::as_bool).unwrap_or(false);
        self.echo = Some(request.get("echo").and_then(Value::as_bool).unwrap_or(false));
        self.max_tokens = request.get("max_tokens").and_then(Value::as_u64);
        self.asked_of_prompt = request.get("prompt_logprobs").is_some_and(|asked| !asked.is_null());
        if let Some(model) = request.get("model").and_then(Value::as_str) {
            model.clone_into(&mut self.model);
        }
        match (request.get("prompt"), request.get("messages").and_then(Value::as_array)) {
            (Some(Value::String(text)), _) => self.asked = Asked::Text(text.clone()),
            (Some(list @ Value::Array(_)), _) => {
                self.prompt =
                    Some(ids(list).ok_or("its request holds several prompts, or ids that are none")?);
            }
            (_, Some(turns)) => {
                let turn = |turn: &Value| {
                    let word = |key: &str| turn.get(key).and_then(Value::as_str).map(str::to_owned);
                    Some((word("role")?, word("content")?))
                };
                let plain = ["tools", "functions", "documents"].iter().all(|key| request.get(key).is_none());
                if let (true, Some(turns)) = (plain, turns.iter().map(turn).collect()) {
                    self.asked = Asked::Chat(turns);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Ids of the prompt as the server returns them.
    fn fed(&mut self, stated: Option<&Value>) -> Result<(), String> {
        let Some(list) = stated.filter(|list| !list.is_null()) else { return Ok(()) };
        let list = ids(list).ok_or("prompt_token_ids are no ids")?;
        if self.prompt.as_ref().is_some_and(|known| *known != list) {
            return Err("prompt_token_ids are not those that were sent".to_owned());
        }
        self.prompt = Some(list);
        Ok(())
    }

    /// Takes echoed prompts off outputs. *Errors:* the choice in which none or no end of one is found, and why.
    fn part_echoes(&mut self) -> Result<(), (usize, String)> {
        for (index, output) in self.outputs.iter_mut().enumerate() {
            if self.echo == Some(false) || !output.is_completion || output.rows.is_empty() {
                continue;
            }
            if !output.begins_with_none {
                if self.echo == Some(true) {
                    let what = "its prompt was to be echoed, and its first token has a log-probability";
                    return Err((index, what.to_owned()));
                }
                continue;
            }
            let rows = output.rows.len();
            let known = self.prompt.as_ref().map(Vec::len).or(self.prompt_tokens);
            let length = match (known, self.max_tokens, &output.ids) {
                (Some(length), ..) => length,
                (None, Some(0), _) => rows,
                (None, _, Some(ids)) => rows.saturating_sub(ids.len()),
                (None, _, None) => {
                    let what =
                        "where its echoed prompt ends is not said (usage.prompt_tokens, prompt_token_ids)";
                    return Err((index, what.to_owned()));
                }
            };
            if length == 0 || length > rows {
                let what = format!("{rows} tokens with an echoed prompt of {length}");
                return Err((index, what));
            }
            let behind = output.rows.split_off(length);
            let echoed = std::mem::replace(&mut output.rows, behind);
            self.prompt_rows.add_echo(echoed).map_err(|what| (index, what))?;
        }
        Ok(())
    }
}

impl Output {
    /// Adds what a choice, or a chunk of one, holds.
    fn add(&mut self, choice: &Value) -> Result<(), String> {
        if let Some(list) = choice.get("token_ids").filter(|list| !list.is_null()) {
            self.ids.get_or_insert_default().extend(ids(list).ok_or("token_ids are no ids")?);
        }
        let Some(logprobs) = choice.get("logprobs").filter(|logprobs| !logprobs.is_null()) else {
            return Ok(());
        };
        if let Some(content) = logprobs.get("content").filter(|content| !content.is_null()) {
            let content = content.as_array().ok_or("logprobs.content is no list")?;
            for token in content {
                let place = self.rows.len();
                self.rows.push(of_chat(token).map_err(|what| format!("logprobs.content[{place}]: {what}"))?);
            }
            return Ok(());
        }
        let list = |key: &str| logprobs.get(key).and_then(Value::as_array);
        let (Some(tokens), Some(values)) = (list("tokens"), list("token_logprobs")) else {
            return Err("logprobs hold neither content nor tokens".to_owned());
        };
        let top = list("top_logprobs");
        if tokens.len() != values.len() || top.is_some_and(|top| top.len() != tokens.len()) {
            return Err("logprobs hold lists of different lengths".to_owned());
        }
        if self.rows.is_empty() {
            self.is_completion = true;
            self.begins_with_none = values.first().is_some_and(Value::is_null);
        }
        for (place, (token, value)) in tokens.iter().zip(values).enumerate() {
            let token = Name::of(token.as_str().ok_or("a token of logprobs is no text")?);
            let others = top.and_then(|top| top[place].as_object()).into_iter().flatten();
            let others = others.map(|(name, value)| (Name::of(name), value));
            self.rows
                .push(Row::of(token, value, others).map_err(|what| format!("logprobs[{place}]: {what}"))?);
        }
        Ok(())
    }
}

fn of_chat(token: &Value) -> Result<Row, String> {
    let named = |token| -> Result<_, String> {
        let name = Value::get(token, "token").and_then(Value::as_str).ok_or("a token has no name")?;
        Ok((Name::of(name), token.get("logprob").unwrap_or(&Value::Null)))
    };
    let (name, value) = named(token)?;
    let top = token.get("top_logprobs").and_then(Value::as_array).into_iter().flatten();
    let others = top.map(named).collect::<Result<Vec<_>, _>>()?;
    Row::of(name, value, others.into_iter())
}
