//! Help, wrong words, streams that refuse.

use std::process::Stdio;

use crate::session::Session;

#[test]
fn help_of_every_verb() {
    let session = Session::new();
    let help = session.run(&["--help"]);
    insta::assert_snapshot!("help", help);
    // The verbs that this help lists: two columns after the margin.
    let (_, verbs) = help.split_once("Verbs:\n").unwrap();
    let (verbs, _) = verbs.split_once("\n\n").unwrap();
    for verb in verbs.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()) {
        if !verb.is_empty() {
            insta::assert_snapshot!(format!("help_{verb}"), session.run(&[verb, "--help"]));
        }
    }
}

#[test]
fn wrong_words_are_refused_in_one_line_that_names_the_right_ones() {
    let session = Session::new();
    let record = ["record", "--model", "m", "--document", "d", "--out", "o"];
    let with = |more: &[&'static str]| [&record, more].concat();
    let cases = [
        vec!["recor"],
        vec!["frobnicate"],
        vec!["--frob"],
        vec!["--format", "xml", "doctor"],
        vec!["doctor", "--color", "sometimes"],
        vec!["pull"],
        vec!["pull", "nobody"],
        vec!["pull", "../escape"],
        vec!["synth", "--out", "x"],
        vec!["synth", "--out", "x", "--arch", "gpt2"],
        vec!["synth", "--out", "x", "--arch", "llama", "--seed", "x"],
        vec!["synth", "--out", "x", "--preset", "qwen2.5-7b", "--arch", "llama"],
        vec!["synth", "--out", "x", "--arch", "llama", "--num-key-value-heads", "3"],
        vec!["synth", "--out", "x", "--arch", "llama", "--num-experts", "8"],
        vec!["synth", "--out", "x", "--arch", "qwen3", "--head-dim", "33"],
        vec!["completions", "tcsh"],
        vec!["convert", "one"],
        vec!["record"],
        vec!["record", "--model"],
        with(&["--attention", "egar"]),
        with(&["--batch-size", "1,0"]),
        with(&["--batch-size", ""]),
        with(&["--dtype", "fp8"]),
        with(&["--layers", "0"]),
        with(&["--layers", "first"]),
        with(&["--positions", "-1,0"]),
        with(&["--sites", "attn"]),
        with(&["--isa", "neon"]),
        with(&["--quantization", "awq"]),
        with(&["--reps", "0"]),
        with(&["--resume", "--fresh"]),
        vec!["demo", "--threads", "0"],
        vec!["inspect", "a", "b"],
        vec!["compare"],
        vec!["compare", "nowhere.json", "nowhere-either"],
        vec!["compare", "a", "b", "--signal", "values"],
        vec!["compare", "a", "b", "--phase", "training"],
        vec!["analyze"],
        vec!["analyze", "nowhere.json"],
        vec!["analyze", "a", "--all", "b"],
        vec!["analyze", "--all", "nowhere"],
        vec!["analyze", "a", "--signal", "keys"],
        vec!["--format", "markdown", "doctor"],
    ];
    let lines: Vec<String> = cases
        .iter()
        .map(|words| format!("$ mantissa {}\n{}", words.join(" "), session.failure(words)))
        .collect();
    insta::assert_snapshot!("wrong_words", lines.join("\n"));
}

#[test]
fn without_a_verb_the_help_goes_to_standard_error() {
    let output = Session::new().output(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Verbs:"));
}

#[test]
fn version_names_the_program() {
    let output = Session::new().output(&["--version"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("mantissa {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_verbs_and_flags() {
    let session = Session::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = session.output(&["completions", shell]);
        let script = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}");
        assert!(script.contains("inspect") && script.contains("batch-size"), "{shell}: {script}");
    }
}

/// A reader that closes the pipe early (`| head -0`) is no failure of the program.
#[test]
fn a_closed_pipe_is_silent() {
    let session = Session::new();
    for arguments in [&["completions", "bash"][..], &["doctor"], &["--help"]] {
        let mut child =
            session.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_standard_output_is_one_line() {
    let session = Session::new();
    for arguments in [&["completions", "bash"][..], &["doctor"], &["--help"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = session.command(arguments).stdout(full).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.starts_with("error: standard output: ") && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn colour_is_as_told() {
    let session = Session::new();
    let escapes = |arguments: &[&str], no_color: &str| {
        let output = session.command(arguments).env("NO_COLOR", no_color).output().unwrap();
        output.stdout.contains(&0x1b)
    };
    for verb in ["doctor", "--help"] {
        assert!(escapes(&["--color", "always", verb], ""), "{verb}");
        assert!(escapes(&["--color=always", verb], "1"), "an explicit flag beats NO_COLOR: {verb}");
        assert!(!escapes(&["--color", "never", verb], ""), "{verb}");
        assert!(!escapes(&[verb], ""), "a pipe is no terminal: {verb}");
    }
}
