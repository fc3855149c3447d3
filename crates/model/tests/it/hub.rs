//! Pulling from a hub on this machine that redirects, breaks off, lies and refuses.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use mantissa_model::pull::{Hub, pull, pulled};
use mantissa_model::{Arch, Checkpoint, ModelError};
use mantissa_numerics::Dtype;
use mantissa_testkit::safetensors::build;
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::one_line;
use crate::tiny;

/// What the server was asked: path, `Range`, `Authorization`.
type Asked = (String, Option<String>, Option<String>);

/// A response: status, extra headers, body, and how many bytes of it are sent before the line goes dead.
struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    sent: usize,
}

fn answer(status: u16, body: &[u8]) -> Answer {
    Answer { status, headers: vec![], body: body.to_vec(), sent: usize::MAX }
}

struct Server {
    endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// Serves one request per connection until the test ends; `reply` sees the request and its number.
fn serve(reply: impl Fn(&Asked, usize) -> Answer + Send + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Some(request) = read_request(&stream) else { continue };
            let number = {
                let mut log = log.lock().unwrap();
                log.push(request.clone());
                log.len()
            };
            send(stream, &reply(&request, number));
        }
    });
    Server { endpoint, asked }
}

fn read_request(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let (mut range, mut auth) = (None, None);
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "authorization" => auth = Some(value.to_owned()),
            _ => {}
        }
    }
    Some((path, range, auth))
}

fn send(mut stream: TcpStream, answer: &Answer) {
    let length = answer.body.len();
    let mut head =
        format!("HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {length}\r\n", answer.status);
    for header in &answer.headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&answer.body[..length.min(answer.sent)]);
}

/// A tiny model as a hub lists and serves it.
#[derive(Clone)]
struct Repository {
    files: Vec<(String, Vec<u8>)>,
}

impl Repository {
    fn new() -> Self {
        let arch = Arch::LLAMA;
        let weights = build(&tiny::tensors(&tiny::config(arch), Dtype::Bf16));
        let files = [
            ("config.json", tiny::config_json(arch).to_string().into_bytes()),
            ("model.safetensors", weights),
            ("tokenizer_config.json", b"{}".to_vec()),
            ("README.md", b"not needed".to_vec()),
            ("onnx/model.onnx", b"not needed".to_vec()),
        ];
        Self { files: files.map(|(name, bytes)| (name.to_owned(), bytes)).to_vec() }
    }

    fn listing(&self) -> Value {
        let siblings: Vec<Value> = self
            .files
            .iter()
            .map(|(name, bytes)| {
                let mut entry = json!({"rfilename": name, "size": bytes.len()});
                if name.ends_with(".safetensors") {
                    entry["lfs"] = json!({"sha256": sha256(bytes), "size": bytes.len()});
                }
                entry
            })
            .collect();
        json!({"sha": "0123456789abcdef", "siblings": siblings})
    }

    /// The honest answer, with byte ranges.
    fn answer(&self, (path, range, _): &Asked) -> Answer {
        if path.starts_with("/api/models/org/tiny/revision/") {
            return answer(200, self.listing().to_string().as_bytes());
        }
        let name = path.strip_prefix("/org/tiny/resolve/0123456789abcdef/").unwrap_or("?");
        let Some((_, bytes)) = self.files.iter().find(|(file, _)| file == name) else {
            return answer(404, b"no");
        };
        let from = range.as_ref().and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match from {
            None => answer(200, bytes),
            Some(from) if from >= bytes.len() => answer(416, b""),
            Some(from) => {
                let range = format!("Content-Range: bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                Answer { headers: vec![range], ..answer(206, &bytes[from..]) }
            }
        }
    }
}

const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];

fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes)
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|n| DIGITS[usize::from(n)])
        .collect()
}

fn pull_tiny(server: &Server, home: &std::path::Path) -> Result<std::path::PathBuf, ModelError> {
    pull("org/tiny", home, &Hub { endpoint: &server.endpoint, token: Some("secret") }, &|_| {})
}

#[test]
fn a_model_comes_whole_with_only_what_is_needed() {
    let repository = Repository::new();
    let served = repository.clone();
    let server = serve(move |asked, _| served.answer(asked));
    let home = tempfile::tempdir().unwrap();
    let last = std::cell::Cell::new((0, None));
    let hub = Hub { endpoint: &format!("{}/", server.endpoint), token: None };
    let folder = pull("org/tiny@v1/x", home.path(), &hub, &|p| {
        if p.file == "model.safetensors" {
            last.set((p.done, p.total));
        }
    })
    .unwrap();
    assert_eq!(folder, home.path().join("models/org/tiny@v1--x"));
    let size = u64::try_from(repository.files[1].1.len()).unwrap();
    assert_eq!(last.get(), (size, Some(size)));
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer_config.json"]);
    Checkpoint::open(&folder).unwrap();
    assert_eq!(pulled(home.path()), ["org/tiny@v1/x"]);
    let asked = server.asked.lock().unwrap().len();
    assert_eq!(server.asked.lock().unwrap()[0].0, "/api/models/org/tiny/revision/v1%2Fx?blobs=true");
    // What is here is not asked for again.
    assert_eq!(pull("org/tiny@v1/x", home.path(), &hub, &|_| {}).unwrap(), folder);
    assert_eq!(server.asked.lock().unwrap().len(), asked);
}

#[test]
fn redirects_are_followed_without_the_token() {
    let repository = Repository::new();
    let storage = {
        let served = repository.clone();
        serve(move |asked, _| served.answer(asked))
    };
    let target = storage.endpoint.clone();
    let server = serve(move |asked, _| match asked.0.split_once("/resolve/") {
        None => repository.answer(asked),
        // Small files move on the same server, large ones to another, as on the real hub.
        Some((_, rest)) if !rest.ends_with("model.safetensors") && !asked.0.starts_with("/moved") => {
            Answer { headers: vec![format!("Location: /moved{}", asked.0)], ..answer(307, b"") }
        }
        Some(_) => {
            let path = asked.0.trim_start_matches("/moved");
            Answer { headers: vec![format!("Location: {target}{path}")], ..answer(302, b"") }
        }
    });
    let home = tempfile::tempdir().unwrap();
    Checkpoint::open(&pull_tiny(&server, home.path()).unwrap()).unwrap();
    let here = server.asked.lock().unwrap();
    assert!(here.iter().all(|(_, _, auth)| auth.as_deref() == Some("Bearer secret")), "{here:?}");
    let there = storage.asked.lock().unwrap();
    assert!(there.len() == 3 && there.iter().all(|(_, _, auth)| auth.is_none()), "{there:?}");
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let repository = Repository::new();
    let half = repository.files[1].1.len() / 2;
    let served = repository.clone();
    let server = serve(move |asked, _| {
        let cut = asked.0.ends_with("model.safetensors") && asked.1.is_none();
        Answer { sent: if cut { half } else { usize::MAX }, ..served.answer(asked) }
    });
    let home = tempfile::tempdir().unwrap();
    Checkpoint::open(&pull_tiny(&server, home.path()).unwrap()).unwrap();
    let asked = server.asked.lock().unwrap();
    let ranges: Vec<_> =
        asked.iter().filter(|a| a.0.ends_with("model.safetensors")).map(|a| a.1.clone()).collect();
    assert_eq!(ranges, [None, Some(format!("bytes={half}-"))]);
}

#[test]
fn a_pull_that_failed_is_resumed_by_the_next_one() {
    let repository = Repository::new();
    let served = repository.clone();
    // The first two connections for the weights die: one after 100 kB, one at once.
    let server = serve(move |asked, number| match (asked.0.ends_with("model.safetensors"), number) {
        (true, 0..=3) => Answer { sent: 100_000, ..served.answer(asked) },
        (true, 4) => Answer { sent: 0, ..served.answer(asked) },
        _ => served.answer(asked),
    });
    let home = tempfile::tempdir().unwrap();
    let e = one_line(pull_tiny(&server, home.path()));
    assert!(
        e.contains("the connection ended at byte 100000 of ") && e.contains("run the same pull again"),
        "{e}"
    );
    assert!(pulled(home.path()).is_empty());
    Checkpoint::open(&pull_tiny(&server, home.path()).unwrap()).unwrap();
    let asked = server.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|a| a.0.ends_with("/config.json")).count(), 1, "{asked:?}");
    assert!(asked.iter().any(|a| a.1.as_deref() == Some("bytes=100000-")));
}

#[test]
fn a_server_without_ranges_starts_over() {
    let repository = Repository::new();
    let served = repository.clone();
    let server = serve(move |(path, _, auth), number| {
        let whole = served.answer(&(path.clone(), None, auth.clone()));
        let cut = path.ends_with("model.safetensors") && number == 3;
        Answer { sent: if cut { 5000 } else { usize::MAX }, ..whole }
    });
    let home = tempfile::tempdir().unwrap();
    Checkpoint::open(&pull_tiny(&server, home.path()).unwrap()).unwrap();
    let asked = server.asked.lock().unwrap();
    let ranges: Vec<_> =
        asked.iter().filter(|a| a.0.ends_with("model.safetensors")).map(|a| a.1.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=5000-")], "it was cut, and the rest was asked for");
}

#[test]
fn wrong_bytes_are_thrown_away() {
    let repository = Repository::new();
    let bent = |name: &'static str, change: fn(&mut Vec<u8>)| {
        let honest = repository.clone();
        serve(move |asked, _| {
            let mut answer = honest.answer(asked);
            if asked.0.ends_with(name) {
                change(&mut answer.body);
            }
            answer
        })
    };
    for (server, want) in [
        (bent("model.safetensors", |body| *body.last_mut().unwrap() ^= 1), "the hub announced"),
        (bent("config.json", |body| body.push(b' ')), "more than the announced"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let e = one_line(pull_tiny(&server, home.path()));
        assert!(e.contains(want), "{e}");
        assert!(pulled(home.path()).is_empty());
    }
}

#[test]
fn the_checksum_of_a_redirect_counts_when_the_list_has_none() {
    let repository = Repository::new();
    let server = serve(move |asked, _| {
        if asked.0.starts_with("/api/") {
            let mut listing = repository.listing();
            for file in listing["siblings"].as_array_mut().unwrap() {
                file.as_object_mut().unwrap().remove("lfs");
            }
            return answer(200, listing.to_string().as_bytes());
        }
        if asked.0.ends_with("model.safetensors") && !asked.0.starts_with("/cdn") {
            let headers = vec![
                format!("Location: /cdn{}", asked.0),
                format!("X-Linked-Etag: \"{}\"", sha256(b"something else")),
            ];
            return Answer { headers, ..answer(302, b"") };
        }
        let (path, range, auth) = asked.clone();
        repository.answer(&(path.trim_start_matches("/cdn").to_owned(), range, auth))
    });
    let home = tempfile::tempdir().unwrap();
    let e = one_line(pull_tiny(&server, home.path()));
    assert!(e.contains(&format!("the hub announced {}", sha256(b"something else"))), "{e}");
}

#[test]
fn refusals_name_the_remedy() {
    for (status, want) in [
        (401, "access refused (HTTP 401)"),
        (403, "set HF_TOKEN"),
        (404, "no such model, revision or file (HTTP 404); check the spelling"),
        (429, "too many requests"),
        (503, "the server failed (HTTP 503)"),
    ] {
        let server = serve(move |_, _| answer(status, b"<html>\nno\n</html>"));
        let home = tempfile::tempdir().unwrap();
        let e = one_line(pull_tiny(&server, home.path()));
        assert!(e.contains(want), "{e}");
        assert!(!e.contains("secret"), "{e}");
    }
    let server =
        serve(|asked, _| Answer { headers: vec![format!("Location: {}", asked.0)], ..answer(302, b"") });
    let home = tempfile::tempdir().unwrap();
    assert!(one_line(pull_tiny(&server, home.path())).contains("more than 5 redirects"));
    for body in ["<html>", "{}", "[]"] {
        let server = serve(move |_, _| answer(200, body.as_bytes()));
        assert!(one_line(pull_tiny(&server, home.path())).contains("not a list of files"));
    }
    let hub = Hub { endpoint: "ftp://x", token: None };
    assert!(one_line(pull("org/tiny", home.path(), &hub, &|_| {})).contains("no http address"));
}

#[test]
fn file_names_that_leave_the_folder_are_refused() {
    for name in ["../config.json", "a/../../b", "/etc/passwd", "..\\x", "\\\\server\\x"] {
        let mut repository = Repository::new();
        repository.files.push((name.to_owned(), b"x".to_vec()));
        let server = serve(move |asked, _| repository.answer(asked));
        let home = tempfile::tempdir().unwrap();
        let e = one_line(pull_tiny(&server, home.path()));
        assert!(e.contains("leaves the folder"), "{e}");
    }
    let mut repository = Repository::new();
    repository.files.retain(|(name, _)| name != "config.json");
    let server = serve(move |asked, _| repository.answer(asked));
    let home = tempfile::tempdir().unwrap();
    assert!(one_line(pull_tiny(&server, home.path())).contains("the repository has no config.json"));
}
