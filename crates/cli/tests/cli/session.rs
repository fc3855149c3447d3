//! A temporary place to run `mantissa` in, and what it said there as one text for a snapshot.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A working folder and a home of its own; nothing of the user's environment reaches the program.
pub(crate) struct Session {
    folder: tempfile::TempDir,
}

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

impl Session {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        Self { folder }
    }

    /// A path in the working folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// Where the program keeps models.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mantissa"));
        command
            .args(arguments)
            .current_dir(self.path(""))
            .env_clear()
            .env("MANTISSA_HOME", self.home())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Exit code, standard output and standard error, with the folders' names made the same everywhere.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.text(arguments, &self.output(arguments))
    }

    pub(crate) fn text(&self, arguments: &[&str], output: &Output) -> String {
        let code = output.status.code().map_or_else(|| "none".to_owned(), |code| code.to_string());
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let text =
            format!("$ mantissa {}\nexit {code}\n--- stdout\n{out}--- stderr\n{err}", arguments.join(" "));
        let fixtures = repository().join("fixtures");
        text.replace(&self.folder.path().display().to_string(), "[DIR]")
            .replace(&fixtures.display().to_string(), "[FIXTURES]")
    }

    /// The one line that a failure must leave on standard error, with nothing on standard output and exit code 2.
    pub(crate) fn failure(&self, arguments: &[&str]) -> String {
        self.failure_of(2, arguments)
    }

    /// The same with another exit code.
    pub(crate) fn failure_of(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let text = self.text(arguments, &output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(output.stdout.is_empty(), "{text}");
        let error = text.split_once("--- stderr\n").map(|(_, error)| error.to_owned()).unwrap();
        let line = error.strip_suffix('\n').unwrap_or_else(|| panic!("no line: {text}"));
        assert!(line.starts_with("error: ") && line.contains("; ") && !line.contains('\n'), "{text}");
        line.to_owned()
    }
}
