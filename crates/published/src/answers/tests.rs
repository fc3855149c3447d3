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

/// An answer to the prompt 5, 6, 7 with one token, and what it says of the prompt.
fn scored(request: &str, of_prompt: &str) -> String {
    format!(
        r#"{{"request": {{{request}}}, "response": {{"choices": [{{"prompt_token_ids": [5, 6, 7], "token_ids": [9],
        "prompt_logprobs": {of_prompt}, "logprobs": {{"tokens": ["token_id:9"], "token_logprobs": [-0.5],
        "top_logprobs": [{{"token_id:9": -0.5, "token_id:8": -1.5}}]}}}}]}}}}"#
    )
}

const OF_PROMPT: &str = r#"[null, {"6": {"logprob": -4.5, "rank": 9, "decoded_token": "f"}, "1": {"logprob": -0.25,
    "rank": 1}, "2": {"logprob": -0.75}}, {"3": {"logprob": -1.5}, "7": {"logprob": -9999.0}}]"#;

#[test]
fn tokens_of_a_prompt_are_rows_of_their_own() {
    let read = |text: &str| read(text).experiment(None, false).unwrap().experiment;
    let fill = (Printed::FILLER, f32::NEG_INFINITY);
    let rows = vec![
        vec![(6, -4.5), (1, -0.25), (2, -0.75)],
        vec![(7, -9999.0), (3, -1.5), fill],
        vec![(9, -0.5), (8, -1.5), fill],
    ];
    let made = read(&scored("", OF_PROMPT));
    let run = &made.runs[0];
    assert_eq!(listed(run), rows, "the prompt's own token first, wherever it stood");
    assert_eq!(run.phase(Phase::Prefill).unwrap().positions, [-3, -2, -1]);
    assert_eq!(made.metadata.extraction_config.positions, [-3, -2, -1]);
    // Of a chat it stands beside the choices; without an output's log-probabilities it stands alone.
    let alone = format!(
        r#"{{"object": "chat.completion", "prompt_token_ids": [5, 6, 7], "prompt_logprobs": {OF_PROMPT},
        "choices": [{{"index": 0, "logprobs": null}}, {{"index": 1, "logprobs": null}}]}}"#
    );
    let made = read(&alone);
    assert_eq!((listed(&made.runs[0]), listed(&made.runs[1])), (rows[..2].to_vec(), vec![]), "said once");
    assert_eq!(made.runs[0].phase(Phase::Prefill).unwrap().positions, [-3, -2]);
    // A prompt of one token has no other.
    let one = r#"{"choices": [{"prompt_token_ids": [5], "prompt_logprobs": [null]}]}"#;
    assert!(read(one).runs[0].prefill.is_none());
    // Without ids nobody knows which candidate is the prompt's own.
    let unfed = scored("", OF_PROMPT).replace(r#""prompt_token_ids": [5, 6, 7], "#, "");
    assert_eq!(listed(&read(&unfed).runs[0]), [vec![(9, -0.5), (8, -1.5), fill]]);
}

#[test]
fn lists_are_not_filled_without_bound() {
    let of = |rows: usize, most: usize| {
        let entry = r#"{"5": {"logprob": -1}}, "#.repeat(rows);
        let longest: Vec<String> = (5..5 + most).map(|id| format!(r#""{id}": {{"logprob": -1}}"#)).collect();
        let ids = vec!["5"; rows + 2].join(", ");
        let longest = longest.join(", ");
        let text = format!(
            r#"{{"choices": [{{"prompt_token_ids": [{ids}], "prompt_logprobs": [null, {entry}{{{longest}}}]}}]}}"#
        );
        read(&text).experiment(None, false).map(|made| listed(&made.experiment.runs[0]).len())
    };
    assert_eq!(of(2, 4097).unwrap(), 3);
    for (rows, most) in [(2, 4098), (16_500, 4097)] {
        let said = of(rows, most).unwrap_err().to_string();
        assert!(said.contains(&format!("{most} candidates of one token and 1 of another")), "{said}");
    }
}

/// An echo of the prompt a, b and one token, with `behind` it.
fn echoed(request: &str, behind: &str, names: [&str; 3]) -> String {
    let [a, b, c] = names;
    format!(
        r#"{{"request": {{"prompt": "ab", "echo": true{request}}}, "response": {{"choices": [{{{behind} "logprobs": {{
        "tokens": ["{a}", "{b}", "{c}"], "token_logprobs": [null, -2.5, -0.5], "top_logprobs": [null,
        {{"{b}": -2.5, "{a}": -0.25}}, {{"{c}": -0.5}}]}}}}], "usage": {{"prompt_tokens": 2}}}}}}"#
    )
}

#[test]
fn an_echo_names_the_prompt() {
    let ids = ["token_id:1", "token_id:2", "token_id:3"];
    let letters = ["a", "b", "c"];
    let fill = (Printed::FILLER, f32::NEG_INFINITY);
    let rows = vec![vec![(2, -2.5), (1, -0.25)], vec![(3, -0.5), fill]];
    for (names, behind) in [
        (ids, ""),
        (ids, r#""prompt_token_ids": [1, 2], "token_ids": [3],"#),
        (ids, r#""prompt_logprobs": [null, {"2": {"logprob": -2.5}, "1": {"logprob": -0.25}}],"#),
        (letters, ""),
    ] {
        let made = read(&echoed("", behind, names)).experiment(Some(&Letters), false).unwrap();
        let run = &made.experiment.runs[0];
        assert_eq!(
            (&run.prompt_token_ids[..], &run.output_token_ids[..]),
            (&[1, 2][..], &[3][..]),
            "{behind}"
        );
        assert_eq!(listed(run), rows, "{behind}");
        let said = made.warnings.join(" ");
        assert_eq!(said.contains("that the server echoed"), !behind.contains("prompt_token_ids"), "{said}");
    }
    // `max_tokens` 0 is answered with the prompt alone, whatever else was computed.
    let whole = echoed(r#", "max_tokens": 0"#, r#""token_ids": [9],"#, ids)
        .replace(r#"{"prompt_tokens": 2}"#, "null");
    let run = &read(&whole).experiment(None, false).unwrap().experiment.runs[0];
    assert_eq!(
        (&run.prompt_token_ids[..], run.output_token_ids.len(), listed(run).len()),
        (&[1, 2, 3][..], 0, 2)
    );
    // A text that is no token leaves the prompt unknown.
    let run =
        &read(&echoed("", "", ["é", "b", "c"])).experiment(Some(&Letters), false).unwrap().experiment.runs[0];
    assert_eq!((run.prompt_token_ids.len(), listed(run).len()), (0, 1));
    // What begins with no value is an output where the request asked for no echo.
    let plain = echoed("", "", ids).replace(r#""echo": true"#, r#""echo": false"#);
    let run = &read(&plain).experiment(None, false).unwrap().experiment.runs[0];
    assert_eq!((run.output_token_ids.len(), listed(run).len()), (3, 3));
}

#[test]
fn a_prompt_that_contradicts_itself_is_refused() {
    let said = |text: &str| {
        parse(text.as_bytes(), Path::new("a.jsonl")).map_or_else(
            |error| error.to_string(),
            |answers| answers.expect("answers").experiment(Some(&Letters), true).unwrap_err().to_string(),
        )
    };
    let of = |from: &str, to: &str| {
        let text = scored("", OF_PROMPT);
        assert!(text.contains(from), "{from}");
        said(&text.replace(from, to))
    };
    for (from, to, why) in [
        ("[null, ", "[", "does not begin with null"),
        (r#""1": {"#, r#""one": {"#, "prompt_logprobs[1]: 'one' is no token id"),
        (
            r#"{"3": {"logprob": -1.5}, "7": {"logprob": -9999.0}}"#,
            "null",
            "prompt_logprobs[2]: it is no map",
        ),
        (r#""3": {"logprob": -1.5}"#, r#""3": {}"#, "prompt_logprobs[2]: 3 has no logprob"),
        (
            r#""7": {"#,
            r#""8": {"#,
            "prompt_logprobs[2]: the prompt's own token 7 is not in it; give the answers as",
        ),
        ("[5, 6, 7]", "[5, 6]", "3 entries of prompt_logprobs beside 2 prompt ids"),
    ] {
        let found = of(from, to);
        assert!(found.contains(why), "{why}: {found}");
    }
    let chat = r#"{"request": {"messages": [{"role": "user", "content": "efg"}]}, "response": {"choices": [{}],
        "prompt_logprobs": [null, {"6": {"logprob": -1.5}}, {"8": {"logprob": -1.5}}]}}"#;
    assert!(
        said(chat).contains("own token 7 is not in it; the ids that were made of the prompt were not fed")
    );
    let ids = ["token_id:1", "token_id:2", "token_id:3"];
    for (behind, why) in [
        (r#""prompt_token_ids": [1, 4],"#, "token 1 of the echoed prompt is 2, of its ids 4"),
        (r#""prompt_token_ids": [1, 2, 3, 4],"#, "3 tokens with an echoed prompt of 4"),
        (r#""prompt_logprobs": [null, {"2": {"logprob": -2.25}}],"#, "has -2.25 and, echoed, -2.5"),
    ] {
        let found = said(&echoed("", behind, ids));
        assert!(found.contains(why), "{why}: {found}");
    }
    let endless = echoed("", "", ids).replace(r#"{"prompt_tokens": 2}"#, "null");
    assert!(said(&endless).contains("where its echoed prompt ends is not said"));
    let first = echoed("", "", ids).replace("[null, -2.5", "[-1.0, -2.5");
    assert!(said(&first).contains("was to be echoed, and its first token has a log-probability"));
}

/// A completion of one token, its candidates, and what stands beside it.
fn single(token: &str, own: &str, top: &str, beside: &str) -> String {
    format!(
        r#"{{"request": {{"prompt": [1, 2]}}, "response": {{"object": "text_completion", "usage": {{}},
        "choices": [{{"index": 0, "token_ids": [3], {beside} "logprobs": {{"tokens": ["{token}"],
        "token_logprobs": [{own}], "top_logprobs": [{{{top}}}]}}}}]}}}}"#
    )
}

#[test]
fn a_token_that_is_said_twice_is_said_alike() {
    for (token, own, top, said) in [
        ("token_id:3", "-0.5", r#""token_id:3": -0.25"#, "token 3 has -0.5 and, among its candidates, -0.25"),
        ("token_id:3", "\"-0.5\"", r#""token_id:3": -0.5"#, "\"-0.5\" is no log-probability"),
        ("token_id:3", "-0.5", r#""token_id:4": true"#, "true is no log-probability"),
        ("token_id:7", "-0.5", r#""token_id:7": -0.5"#, "token 7 stands where token_ids[0] is 3"),
    ] {
        let refused = refused(&single(token, own, top, ""));
        assert!(refused.contains(said), "{refused}");
    }
    // Where a value is missing the other one is taken.
    let read = |text: &str| listed(&read(text).experiment(Some(&Letters), false).unwrap().experiment.runs[0]);
    assert_eq!(read(&single("token_id:3", "null", r#""token_id:3": -0.5"#, "")), [[(3, -0.5)]]);
    // Ids are in plain decimal: anything else is a text that no token has.
    let [row] = &read(&single("token_id:3", "-0.5", r#""token_id:03": -7"#, ""))[..] else { panic!("a row") };
    assert!(row[0] == (3, -0.5) && row[1].1 == f32::NEG_INFINITY, "{row:?}");
    // Texts are those of several tokens, unless a vocabulary knows better.
    let twice = |text: &str| {
        let chat = format!(
            r#"{{"choices": [{{"index": 0, "token_ids": [3], "logprobs": {{"content": [{{"token": "{text}",
            "logprob": -0.5, "top_logprobs": [{{"token": "{text}", "logprob": -0.25}}]}}]}}}}]}}"#
        );
        parse(chat.as_bytes(), Path::new("a.jsonl"))
            .unwrap()
            .expect("answers")
            .experiment(Some(&Letters), false)
    };
    assert_eq!(twice("??").unwrap().experiment.runs.len(), 1);
    let refused = twice("c").unwrap_err().to_string();
    assert!(refused.contains("\"c\" has -0.5 and, among its candidates, -0.25"), "{refused}");
}

#[test]
fn nothing_is_left_out_without_a_word() {
    let whole = single("token_id:3", "-0.5", "", "").replace('\n', " ");
    let both = whole.replacen('{', r#"{"chunks": [], "#, 1);
    assert!(refused(&both).contains("both a response and chunks"));
    let failed = r#"{"request": {"prompt": [1]}, "chunks": [{"error": {"message": "x"}}]}"#;
    assert!(refused(failed).contains("a part of it is an error"));
    let none = whole.replace(r#""choices": [{"#, r#""choices": [], "others": [{"#);
    let asked = whole.replace(r#""prompt": [1, 2]"#, r#""prompt": [1, 2], "prompt_logprobs": 5"#);
    for (text, said) in [(none, "1 answers hold no choice"), (asked, "1 answers lack the prompt_logprobs")] {
        let made = read(&format!("{whole}\n{text}")).experiment(None, false).unwrap();
        assert!(made.warnings.iter().any(|warning| warning.contains(said)), "{:?}", made.warnings);
    }
}
