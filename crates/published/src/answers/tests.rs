use std::path::Path;

use mantissa_numerics::Phase;

use super::*;

/// Tokens that are letters: `a` is 1, `b` 2, …; `?` may be several.
struct Letters;

impl Vocabulary for Letters {
    fn id(&self, text: &str) -> Option<u32> {
        let [letter] = text.as_bytes() else { return None };
        letter.is_ascii_lowercase().then(|| u32::from(letter - b'a') + 1)
    }

    fn of_text(&self, text: &str) -> std::result::Result<Vec<u32>, String> {
        text.chars().map(|c| self.id(&c.to_string()).ok_or_else(|| format!("'{c}' is no token"))).collect()
    }

    fn of_chat(&self, turns: &[(String, String)]) -> std::result::Result<Vec<u32>, String> {
        self.of_text(&turns.iter().map(|(_, said)| said.as_str()).collect::<String>())
    }
}

fn read(text: &str) -> Answers {
    parse(text.as_bytes(), Path::new("a.jsonl")).unwrap().expect("answers")
}

fn refused(text: &str) -> String {
    parse(text.as_bytes(), Path::new("a.jsonl")).unwrap_err().to_string()
}

/// Candidates of all rows, in order.
fn listed(run: &Run) -> Vec<Vec<(u32, f32)>> {
    let rows = |phase| {
        let found = run.phase(phase).and_then(|phase| phase.logprobs.clone());
        found.map_or_else(Vec::new, |list| {
            let pairs: Vec<(u32, f32)> = list.token_ids.into_iter().zip(list.log_probs).collect();
            pairs.chunks(list.k).map(<[_]>::to_vec).collect()
        })
    };
    [rows(Phase::Prefill), rows(Phase::Decode)].concat()
}

const CHAT: &str = r#"{"request": {"messages": [{"role": "user", "content": "ab"}], "temperature": 0},
    "response": {"object": "chat.completion", "model": "m", "system_fingerprint": "vllm-0.24.0",
    "choices": [{"index": 0, "logprobs": {"content": [
        {"token": "c", "logprob": -0.5, "bytes": [99], "top_logprobs": [{"token": "c", "logprob": -0.5},
            {"token": "d", "logprob": -1.5}]},
        {"token": "é", "logprob": -0.25, "top_logprobs": [{"token": "é", "logprob": -0.25},
            {"token": "e", "logprob": -9999.0}]},
        {"token": "f", "logprob": -0.75, "top_logprobs": []}]}}]}}"#;

#[test]
fn a_chat_is_known_as_far_as_its_texts_are() {
    let answers = read(&CHAT.replace('\n', " "));
    let (bare, made) =
        (answers.experiment(None, false).unwrap(), answers.experiment(Some(&Letters), true).unwrap());
    assert!(answers.has_texts_alone() && answers.names_tokens());
    assert!(bare.experiment.runs[0].output_token_ids.is_empty());
    let run = &made.experiment.runs[0];
    assert_eq!((&run.prompt_token_ids[..], &run.output_token_ids[..]), (&[1, 2][..], &[3][..]));
    // What is unknown has no value, and nothing is followed behind it.
    let rows = listed(run);
    assert_eq!(rows[0], [(3, -0.5), (4, -1.5)]);
    assert!(rows[1][0].0 >= Printed::UNKNOWN && rows[1][1] == (5, -9999.0) && rows.len() == 2);
    let setup = &made.experiment.configurations[0].mantissa.as_ref().unwrap().setup;
    assert_eq!(
        (setup.decoding, made.experiment.configurations[0].config_id.as_str()),
        (Decoding::Greedy, "m, greedy")
    );
    let said = made.warnings.join(" ");
    for words in ["'vllm-0.24.0'", "1 candidates are shown", "1 outputs are followed", "--tokenize-prompt"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let unknown = read(&CHAT.replace('\n', " ").replace("\"ab\"", "\"a!\""));
    let error = unknown.experiment(Some(&Letters), true).unwrap_err().to_string();
    assert!(error.contains("'!' is no token; ask for return_token_ids"), "{error}");
}

#[test]
fn chunks_of_a_stream_are_one_answer() {
    let first = r#"{"id": "x", "object": "text_completion", "created": 1, "model": "m", "choices": [{"index": 0,
        "prompt_token_ids": [5], "token_ids": [7], "logprobs": {"tokens": ["token_id:7"], "token_logprobs": [-0.5],
        "top_logprobs": [{"token_id:7": -0.5, "token_id:8": -1.5}]}}]}"#
        .replace('\n', " ");
    let second = first.replace("\"prompt_token_ids\": [5], ", "").replace('7', "9");
    let whole = format!("data: {first}\n\ndata: {second}\n\ndata: [DONE]\n");
    for text in [whole, format!("{first}\n{second}\n"), format!("{{\"chunks\": [{first}, {second}]}}")] {
        let made = read(&text).experiment(None, false).unwrap();
        let [run] = &made.experiment.runs[..] else { panic!("{text}") };
        assert_eq!((&run.prompt_token_ids[..], &run.output_token_ids[..]), (&[5][..], &[7, 9][..]));
        assert_eq!(listed(run), [[(7, -0.5), (8, -1.5)], [(9, -0.5), (8, -1.5)]]);
    }
}

#[test]
fn lists_of_different_lengths_are_filled() {
    let line = |top: &str| {
        format!(
            "{{\"choices\": [{{\"prompt_token_ids\": [5], \"token_ids\": [7], \"logprobs\": {{\"tokens\": \
             [\"token_id:7\"], \"token_logprobs\": [-0.5], \"top_logprobs\": [{top}]}}}}]}}"
        )
    };
    let text = format!(
        "{}\n{}\n",
        line(r#"{"token_id:8": -0.25, "token_id:7": -0.5}"#),
        line(r#"{"token_id:7": -0.5}"#)
    );
    let made = read(&text).experiment(None, false).unwrap();
    let rows: Vec<_> = made.experiment.runs.iter().map(listed).collect();
    assert_eq!(rows[0], [[(7, -0.5), (8, -0.25)]], "the chosen one comes first");
    assert_eq!(rows[1], [[(7, -0.5), (Printed::FILLER, f32::NEG_INFINITY)]]);
    // The same prompt twice is one reference.
    let references: Vec<_> = made.experiment.runs.iter().map(|run| (run.reference_id, run.rep_id)).collect();
    assert_eq!(references, [(0, 0), (0, 1)]);
}

#[test]
fn what_is_no_answer_is_refused_or_left_to_others() {
    for text in ["", "once", "[1, 2]", r#"{"a": 1}"#, "{\"a\": 1}\n{\"b\": 2}\n", r#"{"response": {}}"#] {
        assert!(parse(text.as_bytes(), Path::new("a")).unwrap().is_none(), "{text}");
    }
    let said = refused(r#"{"choices": [{"text": "a", "logprobs": null}]}"#);
    assert!(said.contains("hold no log-probabilities; ask the server for `logprobs`"), "{said}");
    let row = r#"{"tokens": ["token_id:7"], "token_logprobs": [-0.5], "top_logprobs": null}"#;
    let fed = |sent: &str, returned: &str| {
        format!(
            "{{\"request\": {{\"prompt\": {sent}}}, \"response\": {{\"choices\": [{{\"prompt_token_ids\": {returned}, \
             \"logprobs\": {row}}}]}}}}"
        )
    };
    assert!(refused(&fed("[5, 6]", "[5]")).contains("are not those that were sent"));
    assert!(refused(&fed("[[5], [6]]", "[5]")).contains("several prompts"));
    let ids = format!("{{\"choices\": [{{\"token_ids\": [7, 8], \"logprobs\": {row}}}]}}");
    assert!(refused(&ids).contains("2 token ids beside 1 log-probabilities"));
    let whole = fed("[5]", "[5]");
    assert!(refused(&format!("{whole}\n{}", &whole[..40])).contains("line 2: no JSON"));
    assert!(refused(&format!("{whole}\n{{\"a\": 1}}")).contains("it is no answer"));
}
