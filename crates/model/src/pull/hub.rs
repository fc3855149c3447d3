//! Downloads from a Hugging Face hub: the file list of one commit, then each needed file, resumable and verified.
//!
//! *Source:* the hub's HTTP API as used by huggingface_hub (0.35): `/api/models/{id}/revision/{rev}?blobs=true`
//! and `/{id}/resolve/{commit}/{file}`; large files answer with a redirect that carries their SHA-256.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, StatusCode, header};

use super::delivery::{Progress, publish, sha256, sync};
use crate::error::{ModelError, is_plain_name, shown};

/// The hub that is asked when no other endpoint is given.
pub const HUB: &str = "https://huggingface.co";

/// A Hugging Face hub or a mirror of one.
///
/// Example: [`pull`](super::pull).
#[derive(Clone, Copy)]
pub struct Hub<'a> {
    /// Address without a slash at the end, [`HUB`] or what `HF_ENDPOINT` says.
    pub endpoint: &'a str,
    /// Access token for gated models, sent to the endpoint alone.
    pub token: Option<&'a str>,
}

impl std::fmt::Debug for Hub<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Redirects followed for one request.
const MOST_REDIRECTS: usize = 5;
/// Broken connections survived for one file, as long as each brought something.
const MOST_ATTEMPTS: usize = 5;
/// Longest answer of the API; the largest repositories list some thousand files.
const LONGEST_LIST: u64 = 16 << 20;
/// Silence after which a connection counts as broken.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
struct Listing {
    sha: Option<String>,
    siblings: Vec<Sibling>,
}

/// One file of a repository.
#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

pub(super) fn pull(
    hub: &Hub<'_>,
    id: &str,
    revision: Option<&str>,
    partial: &Path,
    folder: &Path,
    progress: &dyn Fn(Progress<'_>),
) -> Result<(), ModelError> {
    let client = Client::new(hub)?;
    let revision = revision.unwrap_or("main");
    let list_url = format!("{}/api/models/{id}/revision/{}?blobs=true", client.endpoint, encoded(revision));
    let listing = client.list(&list_url)?;
    // Files of one commit: a branch may move between two files, or between a broken pull and its resumption.
    let commit = match &listing.sha {
        Some(sha) if sha.len() >= 7 && sha.chars().all(|c| c.is_ascii_alphanumeric()) => sha.clone(),
        Some(sha) => return Err(fault(&list_url, format!("commit '{}' is not a hash", shown(sha)), AGAIN)),
        None => encoded(revision),
    };
    let mut wanted = Vec::new();
    for file in &listing.siblings {
        let name = &file.rfilename;
        if name.split(['/', '\\']).any(|part| part == "..")
            || name.starts_with(['/', '\\'])
            || name.contains('\0')
        {
            let why = format!("file name '{}' leaves the folder", shown(name));
            return Err(fault(&list_url, why, "do not use this model"));
        }
        if is_plain_name(name) && is_needed(name) {
            wanted.push(file);
        }
    }
    for (what, present) in [
        ("config.json", wanted.iter().any(|file| file.rfilename == "config.json")),
        ("safetensors weights", wanted.iter().any(|file| file.rfilename.ends_with(".safetensors"))),
    ] {
        if !present {
            let remedy = "use a model in safetensors format, or download a GGUF file and give its path";
            return Err(fault(&list_url, format!("the repository has no {what}"), remedy));
        }
    }
    let gathered = partial.join(format!("{}@{}", id.replace('/', "--"), commit.replace('%', "-")));
    std::fs::create_dir_all(&gathered).map_err(|e| ModelError::io(&gathered, "create", e))?;
    for file in wanted {
        let name = &file.rfilename;
        let url = format!("{}/{id}/resolve/{commit}/{}", client.endpoint, encoded(name));
        client.file(&url, file, &gathered, progress)?;
    }
    publish(&gathered, folder)
}

/// Whether a file of the repository's top folder is part of what Mantissa reads.
#[expect(clippy::case_sensitive_file_extension_comparisons, reason = "names on the hub are exact")]
fn is_needed(name: &str) -> bool {
    matches!(name, "config.json" | "generation_config.json" | "special_tokens_map.json")
        || name == "model.safetensors.index.json"
        || (name.starts_with("model") && name.ends_with(".safetensors"))
        || (name.starts_with("tokenizer") && name.ends_with(".json"))
        || matches!(name, "chat_template.jinja" | "chat_template.json")
}

const AGAIN: &str = "run the same pull again: it goes on where it stopped";

fn fault(url: &str, fault: impl Into<String>, remedy: &str) -> ModelError {
    ModelError::Download { url: shown(url), fault: fault.into(), remedy: remedy.to_owned() }
}

struct Client<'a> {
    agent: ureq::Agent,
    endpoint: &'a str,
    token: Option<&'a str>,
}

impl<'a> Client<'a> {
    fn new(hub: &Hub<'a>) -> Result<Self, ModelError> {
        let endpoint = hub.endpoint.trim_end_matches('/');
        if origin(endpoint).is_none() {
            let remedy = "give an address such as https://huggingface.co";
            return Err(fault(endpoint, "the endpoint is no http address", remedy));
        }
        let agent = ureq::Agent::config_builder()
            // Redirects are followed here: they carry a checksum, and the token must not travel with them.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            // Byte ranges are of the file as it is.
            .accept_encoding("identity")
            .user_agent(concat!("mantissa/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { agent, endpoint, token: hub.token })
    }

    fn list(&self, url: &str) -> Result<Listing, ModelError> {
        let (response, _) = self.get(url, 0)?;
        let mut text = Vec::new();
        let mut body = response.into_body().into_reader().take(LONGEST_LIST);
        body.read_to_end(&mut text).map_err(|e| fault(url, shown(&e.to_string()), AGAIN))?;
        serde_json::from_slice(&text).map_err(|e| {
            fault(url, format!("not a list of files: {}", shown(&e.to_string())), "check the endpoint")
        })
    }

    /// Gets `url` from byte `from` on. Also returns the SHA-256 that a redirect announced.
    fn get(&self, url: &str, from: u64) -> Result<(Response<ureq::Body>, Option<String>), ModelError> {
        let mut at = url.to_owned();
        let mut checksum = None;
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.agent.get(&at);
            if from > 0 {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            if let Some(token) = self.token.filter(|_| origin(&at) == origin(self.endpoint)) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let response = request.call().map_err(|e| {
                fault(url, shown(&e.to_string()), "check the network and the endpoint, then run it again")
            })?;
            let field = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            checksum = field("x-linked-etag").map(|etag| etag.trim_matches('"').to_owned()).or(checksum);
            if !response.status().is_redirection() {
                check_status(url, response.status())?;
                return Ok((response, checksum.filter(|sum| is_sha256(sum))));
            }
            let Some(next) = field("location").and_then(|location| follow(&at, location)) else {
                return Err(fault(url, "a redirect that leads nowhere", "check the endpoint"));
            };
            at = next;
        }
        Err(fault(url, format!("more than {MOST_REDIRECTS} redirects"), "check the endpoint"))
    }

    /// Brings one file into `folder`, through `NAME.part`.
    fn file(
        &self,
        url: &str,
        file: &Sibling,
        folder: &Path,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<(), ModelError> {
        let name = file.rfilename.as_str();
        let done = folder.join(name);
        if done.is_file() {
            return Ok(());
        }
        let part = folder.join(format!("{name}.part"));
        let lfs = file.lfs.as_ref();
        let size = lfs.and_then(|lfs| lfs.size).or(file.size);
        let mut checksum = lfs.and_then(|lfs| lfs.sha256.clone()).filter(|sum| is_sha256(sum));
        let mut attempts = 0;
        loop {
            let have = std::fs::metadata(&part).map_or(0, |meta| meta.len());
            if have > 0 && size == Some(have) {
                break;
            }
            attempts += 1;
            let (whole, announced) = self.attempt(url, name, &part, have, size, progress)?;
            checksum = checksum.or(announced);
            let now = std::fs::metadata(&part).map_or(0, |meta| meta.len());
            if whole {
                break;
            }
            // Shorter than before is progress too: a server without ranges, or a stale part thrown away.
            if now == have || attempts >= MOST_ATTEMPTS {
                let of = size.map_or(String::new(), |size| format!(" of {size}"));
                return Err(fault(url, format!("the connection ended at byte {now}{of}"), AGAIN));
            }
        }
        let have = std::fs::metadata(&part).map_err(|e| ModelError::io(&part, "read", e))?.len();
        let wrong = match checksum {
            _ if size.is_some_and(|size| size != have) => {
                Some(format!("{have} bytes came, the hub announced {}", size.unwrap_or_default()))
            }
            Some(want) => match sha256(&part)? {
                got if got.eq_ignore_ascii_case(&want) => None,
                got => Some(format!("sha256 is {got}, the hub announced {want}")),
            },
            None => None,
        };
        if let Some(wrong) = wrong {
            std::fs::remove_file(&part).map_err(|e| ModelError::io(&part, "remove", e))?;
            return Err(fault(
                url,
                wrong,
                "run the pull again; if it repeats, the hub or a proxy is at fault",
            ));
        }
        sync(&part)?;
        std::fs::rename(&part, &done).map_err(|e| ModelError::io(&done, "rename into place", e))
    }

    /// One connection: appends to `part`, which has `have` bytes. Returns whether the file came to its end.
    fn attempt(
        &self,
        url: &str,
        name: &str,
        part: &Path,
        have: u64,
        size: Option<u64>,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<(bool, Option<String>), ModelError> {
        let (response, checksum) = self.get(url, have)?;
        // A server that ignores the range sends everything; one that cannot satisfy it has another file.
        let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let resumes = response.status() == StatusCode::PARTIAL_CONTENT
            && range.is_some_and(|range| range.starts_with(&format!("bytes {have}-")));
        if response.status() == StatusCode::PARTIAL_CONTENT && !resumes {
            return Err(fault(url, "another range came than was asked for", "check the endpoint"));
        }
        let mut options = OpenOptions::new();
        let options =
            if resumes { options.append(true) } else { options.write(true).create(true).truncate(true) };
        let mut out = options.open(part).map_err(|e| ModelError::io(part, "write", e))?;
        let mut done = if resumes { have } else { 0 };
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok((false, checksum));
        }
        let total = size.or_else(|| response.body().content_length().map(|rest| done + rest));
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 256 << 10];
        loop {
            progress(Progress { file: name, done, total });
            let read = match body.read(&mut buffer) {
                Ok(0) => return Ok((total.is_none_or(|total| done >= total), checksum)),
                Ok(read) => read,
                Err(_) => return Ok((false, checksum)),
            };
            done += u64::try_from(read).unwrap_or(u64::MAX);
            if total.is_some_and(|total| done > total) {
                let total = total.unwrap_or_default();
                return Err(fault(
                    url,
                    format!("more than the announced {total} bytes came"),
                    "check the endpoint",
                ));
            }
            out.write_all(&buffer[..read]).map_err(|e| ModelError::io(part, "write", e))?;
        }
    }
}

fn check_status(url: &str, status: StatusCode) -> Result<(), ModelError> {
    let (what, remedy) = match status.as_u16() {
        200 | 206 | 416 => return Ok(()),
        401 | 403 => (
            "access refused",
            "check the name; for a gated model accept its licence on the hub and set HF_TOKEN to a valid token",
        ),
        404 => ("no such model, revision or file", "check the spelling of organization/name@revision"),
        429 => ("too many requests", "wait a few minutes and run it again"),
        500.. => ("the server failed", AGAIN),
        _ => ("unexpected answer", "check the endpoint"),
    };
    Err(fault(url, format!("{what} (HTTP {})", status.as_u16()), remedy))
}

/// A name as one segment of an address.
fn encoded(name: &str) -> String {
    use std::fmt::Write as _;
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// Scheme, host and port of an http address.
fn origin(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty() && !host.contains('@'))?;
    Some(&url[..url.len() - rest.len() + host.len()])
}

/// The address a redirect leads to; none for other schemes, and none from https to http.
fn follow(from: &str, location: &str) -> Option<String> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{}{location}", origin(from)?));
    }
    origin(location)?;
    (from.starts_with("http://") || location.starts_with("https://")).then(|| location.to_owned())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_only_to_http_and_never_down_from_https() {
        assert_eq!(follow("https://h/a/b?c", "/d").as_deref(), Some("https://h/d"));
        assert_eq!(follow("https://h/a", "https://cdn/x").as_deref(), Some("https://cdn/x"));
        assert_eq!(follow("http://h:1/a", "http://cdn/x").as_deref(), Some("http://cdn/x"));
        for location in ["http://h/a", "file:///etc/passwd", "//h/a", "a", "https://", "https://user@h/"] {
            assert_eq!(follow("https://h/a", location), None, "{location}");
        }
    }

    #[test]
    fn only_what_is_read_is_downloaded() {
        for name in ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "tokenizer.json"]
        {
            assert!(is_needed(name), "{name}");
        }
        for name in ["README.md", "pytorch_model.bin", "consolidated.safetensors", "model.onnx", "x.gguf"] {
            assert!(!is_needed(name), "{name}");
        }
    }
}
