//! What the program prints on terminals of several widths, and what an interrupt leaves.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::session::Session;

/// A terminal of so many columns: what reads it, and what a program writes to.
fn terminal(columns: u16) -> (std::fs::File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let program = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (master.into(), program)
}

/// What a command shows on a terminal of so many columns.
fn shown(mut command: Command, columns: u16) -> String {
    let (mut master, program) = terminal(columns);
    let other = program.try_clone().unwrap();
    command.env("TERM", "xterm").stdout(Stdio::from(program)).stderr(Stdio::from(other));
    let mut child = command.spawn().unwrap();
    // The last writer gone, reading ends.
    drop(command);
    let mut bytes = Vec::new();
    // Linux ends a terminal that nobody holds with an error.
    drop(master.read_to_end(&mut bytes));
    child.wait().unwrap();
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

/// Without what switches colours on and off.
fn plain(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

/// A session with a model and a document.
fn prepared() -> Session {
    let session = Session::new();
    session.output(&["synth", "--arch", "llama", "--seed", "7", "--out", "model"]);
    std::fs::write(session.path("document.txt"), "Rounding is decided by order. ".repeat(40)).unwrap();
    session
}

fn recorded() -> Session {
    let session = prepared();
    let record = [
        "record",
        "--model",
        "model",
        "--document",
        "document.txt",
        "--document-tokens",
        "24",
        "--decode",
        "2",
        "--no-chat-template",
        "--batch-size",
        "1,2,8",
        "--reps",
        "1",
        "--isa",
        "scalar",
        "--out",
        "record",
    ];
    let output = session.output(&record);
    assert_eq!(output.status.code(), Some(0), "{}", session.text(&record, &output));
    session
}

#[test]
fn nothing_is_broader_than_the_terminal() {
    let session = recorded();
    // Without bars, which a busy machine would show.
    let vary = "batch_size=1,2,4,8,16";
    let verify = ["--quiet", "verify", "record", "--model", "model", "--vary", vary, "--isa", "scalar"];
    let verbs: [&[&str]; 7] = [
        &["inspect", "record"],
        &["inspect", "model"],
        &["--quiet", "compare", "record"],
        &["--quiet", "analyze", "record"],
        &verify,
        &["--quiet", "coverage", "--model", "model"],
        &["doctor"],
    ];
    for columns in [60, 80, 200] {
        for verb in verbs {
            let text = shown(session.command(verb), columns);
            assert!(text.contains('\u{1b}'), "colours on a terminal: {verb:?}\n{text}");
            for line in plain(&text).lines() {
                let width = line.chars().count();
                assert!(width <= usize::from(columns), "{verb:?} at {columns}: {width} columns\n{line}");
            }
        }
    }
    for columns in [60, 200] {
        let mut command = session.command(&verify);
        command.env("NO_COLOR", "1");
        let text = shown(command, columns);
        assert!(!text.contains('\u{1b}'), "{text}");
        // Digests of evidence hold the date of recording.
        let (answer, _) = text.split_once("\nSources\n").unwrap();
        insta::assert_snapshot!(format!("verify_at_{columns}"), answer);
    }
    let mut command = session.command(&["inspect", "model"]);
    command.env("NO_COLOR", "1");
    insta::assert_snapshot!("inspect_model_at_60", shown(command, 60));
}

#[test]
fn an_interrupt_says_how_to_go_on_and_the_same_command_does() {
    let session = prepared();
    let record = [
        "record",
        "--model",
        "model",
        "--document",
        "document.txt",
        "--document-tokens",
        "24",
        "--decode",
        "40",
        "--no-chat-template",
        "--reps",
        "300",
        "--out",
        "record",
    ];
    let mut child = session.command(&record).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let waiting = Instant::now();
    let unfinished = session.path("record/.unfinished");
    let begun = || std::fs::read_dir(&unfinished).is_ok_and(|entries| entries.count() > 2);
    while !begun() {
        assert!(waiting.elapsed() < Duration::from_mins(2), "no repetition ends");
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be interrupted");
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.trim().starts_with("interrupted; record holds what is done"), "{said}");
    assert!(said.contains("the same command goes on") && said.contains("--fresh begins anew"), "{said}");
    let again = session.run(&record);
    assert!(again.contains("exit 0") && again.contains("repetition(s) were on disk"), "{again}");
}
