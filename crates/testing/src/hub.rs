//! A model hub on loopback for tests: it serves a directory as Hugging Face and ModelScope serve a repository, and misbehaves on demand.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The commit of every repository and revision on the hub.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Files of at least this size are listed with a SHA-256, as files in LFS are; smaller ones with the name of their git object.
const LFS_BYTES: usize = 4096;

/// What goes wrong with an answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The status is 200, but the body is an HTML page.
    Html,
    /// The connection ends after this share of the body, in percent.
    Cut(usize),
    /// The lowest bit of the body's middle byte is flipped.
    Flip,
    /// Only this status and these headers come, without a body.
    Status(u16, Vec<(&'static str, String)>),
    /// Nothing comes, not even a status.
    Hang,
    /// After this many bytes of the body nothing more comes, until [`Hub::release`].
    Stall(usize),
    /// The body comes in small pieces.
    Trickle,
    /// The whole file comes with 200, whatever range was asked for.
    IgnoreRange,
    /// The answer is 206, with another range than was asked for.
    OtherRange,
    /// The file has another ETag, as after a change, so a request for a range of the old version gets the whole file.
    Changed,
}

/// How much of Hugging Face's API a hub implements. Every hub serves the files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Api {
    #[default]
    All,
    /// The answer about a revision lists the files, with sizes and hashes on request; there is no tree.
    Revision,
    /// The answer about the model lists the files' names alone, and only for the default revision.
    Names,
    /// No listing at all.
    Files,
}

/// A request that came to the hub. Its `path` has the query; the names of its headers are in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
}

/// How the hub behaves, as its methods have set it, and what it has been asked.
#[derive(Default)]
struct State {
    faults: HashMap<String, Vec<(usize, Fault)>>,
    requests: Vec<Request>,
    released: bool,
    stalled: usize,
    extra: Vec<Value>,
    hashes: HashMap<String, String>,
    page_size: Option<usize>,
    api: Api,
    secretive: bool,
    gets_only: bool,
}

struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    state: Mutex<State>,
    /// Signals that an answer has stalled, or that stalled ones were released.
    changed: Condvar,
}

/// A running hub. Its threads end with the test process.
pub struct Hub {
    pub url: String,
    shared: Arc<Shared>,
}

/// Reads all files below `directory`; their names are relative to `root`.
fn read_files(directory: &Path, root: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_files(&path, root, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of the git object with this content: SHA-1 over `blob LENGTH\0` and the content.
pub fn git_hash(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Hub {
    /// Serves the files below `directory`, and some that no model needs.
    pub fn serve(directory: &Path) -> Hub {
        let mut files = BTreeMap::new();
        read_files(directory, directory, &mut files);
        files.insert("README.md".into(), b"# a model".to_vec());
        files.insert("onnx/model.onnx".into(), vec![7; 10_000]);
        files.insert("imgs/a.png".into(), vec![8; 10]);
        let shared = Arc::new(Shared { files, state: Mutex::default(), changed: Condvar::new() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = Arc::clone(&server);
                // An error means that the client has gone away, which is not the hub's concern.
                std::thread::spawn(move || drop(serve(&server, stream)));
            }
        });
        Hub { url, shared }
    }

    /// Lets the next `times` answers to requests go wrong whose address contains `path`.
    pub fn fault(&self, path: &str, times: usize, fault: Fault) -> &Hub {
        self.shared.state.lock().unwrap().faults.entry(path.to_owned()).or_default().push((times, fault));
        self
    }

    /// Adds an entry to the listing, besides those of the files.
    pub fn list_also(&self, entry: Value) {
        self.shared.state.lock().unwrap().extra.push(entry);
    }

    /// Lists a file with another hash than it has.
    pub fn lie_about(&self, path: &str, hash: &str) {
        self.shared.state.lock().unwrap().hashes.insert(path.to_owned(), hash.to_owned());
    }

    /// Sets how many entries a page of the listing has.
    pub fn pages_of(&self, entries: usize) {
        self.shared.state.lock().unwrap().page_size = Some(entries);
    }

    /// Limits the API to `api`.
    pub fn knows(&self, api: Api) -> &Hub {
        self.shared.state.lock().unwrap().api = api;
        self
    }

    /// Leaves hashes and commit out of the listing that has no tree, and ETag and commit out of the headers of files.
    pub fn tell_no_hashes(&self) {
        self.shared.state.lock().unwrap().secretive = true;
    }

    /// Answers every HEAD request with 501 from now on.
    pub fn know_get_alone(&self) {
        self.shared.state.lock().unwrap().gets_only = true;
    }

    /// All requests that have come.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state.lock().unwrap().requests.clone()
    }

    /// The requests whose address ends in `path`.
    pub fn requests_for(&self, path: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path.ends_with(path)).collect()
    }

    /// Empties the list of requests.
    pub fn forget_requests(&self) {
        self.shared.state.lock().unwrap().requests.clear();
    }

    /// The content of a file that the hub serves.
    pub fn file(&self, path: &str) -> &[u8] {
        &self.shared.files[path]
    }

    /// Waits until an answer has stalled (see [`Fault::Stall`]).
    pub fn wait_for_stall(&self) {
        let state = self.shared.state.lock().unwrap();
        let (state, timeout) =
            self.shared.changed.wait_timeout_while(state, crate::wait::DEADLINE, |state| state.stalled == 0).unwrap();
        assert!(!timeout.timed_out(), "no answer has stalled: {:?}", state.requests);
    }

    /// Lets stalled answers go on.
    pub fn release(&self) {
        self.shared.state.lock().unwrap().released = true;
        self.shared.changed.notify_all();
    }
}

/// Answers the requests of one connection until it ends.
fn serve(shared: &Shared, stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let path = words.next().unwrap_or_default().to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let request = Request { method, path, headers };
        shared.state.lock().unwrap().requests.push(request.clone());
        if !answer(shared, &request, &mut out)? {
            return Ok(());
        }
    }
}

/// Answers a request. Returns whether the connection stays open for another.
fn answer(shared: &Shared, request: &Request, out: &mut TcpStream) -> std::io::Result<bool> {
    let fault = take_fault(shared, &request.path);
    match &fault {
        Some(Fault::Html) => {
            let page = "<!DOCTYPE html><html><body>Please log in</body></html>";
            return head(out, 200, &[("Content-Type", "text/html; charset=utf-8".into())], page.len())
                .and_then(|()| out.write_all(page.as_bytes()))
                .map(|()| true);
        }
        Some(Fault::Status(code, headers)) => return head(out, *code, headers, 0).map(|()| true),
        Some(Fault::Hang) => {
            // Until the client gives up.
            let _ = out.read(&mut [0]);
            return Ok(false);
        }
        _ => {}
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let value = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).unwrap_or("");
    let (api, gets_only) = {
        let state = shared.state.lock().unwrap();
        (state.api, state.gets_only)
    };
    if request.method == "HEAD" && gets_only {
        return head(out, 501, &[], 0).map(|()| true);
    }
    let of_repository = path.strip_prefix("/api/models/").map(|rest| rest.matches('/').count() == 1);
    match (api, of_repository) {
        (Api::All, Some(false)) if path.contains("/revision/") => {
            return json_answer(out, &json!({ "sha": COMMIT }), &[]);
        }
        (Api::Revision, Some(false)) if path.contains("/revision/") => return siblings(shared, query, out),
        (Api::Names, Some(true)) => return siblings(shared, "", out),
        _ => {}
    }
    if api == Api::All && path.contains("/api/models/") && path.contains("/tree/") {
        return tree(shared, path, value("cursor").parse().unwrap_or(0), out);
    }
    if path.ends_with("/repo/files") {
        let files = shared.files.iter();
        let entries: Vec<Value> = files
            .map(|(path, bytes)| json!({ "Path": path, "Size": bytes.len(), "Sha256": sha256(bytes), "Type": "blob" }))
            .collect();
        return json_answer(out, &json!({ "Code": 200, "Success": true, "Data": { "Files": entries } }), &[]);
    }
    let name = if path.ends_with("/repo") {
        value("FilePath").to_owned()
    } else {
        path.split_once("/resolve/").and_then(|(_, rest)| Some(rest.split_once('/')?.1.to_owned())).unwrap_or_default()
    };
    match shared.files.get(&name) {
        Some(bytes) => content(shared, request, bytes, fault, out),
        None => head(out, 404, &[], 0).map(|()| true),
    }
}

/// Answers as Hugging Face does about a model: its files by name and, if the query has `blobs=true`, their sizes and hashes.
fn siblings(shared: &Shared, query: &str, out: &mut TcpStream) -> std::io::Result<bool> {
    let secretive = shared.state.lock().unwrap().secretive;
    let entry = |(path, bytes): (&String, &Vec<u8>)| {
        let mut entry = json!({ "rfilename": path });
        if query.contains("blobs=true") && !secretive {
            entry["size"] = bytes.len().into();
            entry["blobId"] = git_hash(bytes).into();
            if bytes.len() >= LFS_BYTES {
                entry["lfs"] = json!({ "sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 135 });
            }
        }
        entry
    };
    let files: Vec<Value> = shared.files.iter().map(entry).collect();
    let mut answer = json!({ "id": "BAAI/bge-m3", "siblings": files });
    if !secretive {
        answer["sha"] = COMMIT.into();
    }
    json_answer(out, &answer, &[])
}

/// The fault that is due for a request of this address, if there is one; it is then due one time fewer.
fn take_fault(shared: &Shared, path: &str) -> Option<Fault> {
    let mut state = shared.state.lock().unwrap();
    let (_, faults) =
        state.faults.iter_mut().find(|(name, faults)| path.contains(name.as_str()) && !faults.is_empty())?;
    let (times, fault) = faults.first_mut()?;
    let fault = fault.clone();
    *times -= 1;
    if *times == 0 {
        faults.remove(0);
    }
    Some(fault)
}

/// Writes the status line and the headers of an answer.
fn head(out: &mut TcpStream, code: u16, headers: &[(&str, String)], length: usize) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {code} X\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    out.write_all(format!("{text}\r\n").as_bytes())
}

/// Writes an answer with a JSON body.
fn json_answer(out: &mut TcpStream, value: &Value, headers: &[(&str, String)]) -> std::io::Result<bool> {
    let text = value.to_string();
    let headers = [&[("Content-Type", "application/json".to_owned())], headers].concat();
    head(out, 200, &headers, text.len())?;
    out.write_all(text.as_bytes()).map(|()| true)
}

/// Answers with a page of Hugging Face's listing of files, which begins with the entry number `from`.
fn tree(shared: &Shared, path: &str, from: usize, out: &mut TcpStream) -> std::io::Result<bool> {
    let state = shared.state.lock().unwrap();
    let mut entries = vec![json!({ "type": "directory", "path": "onnx", "oid": "0", "size": 0 })];
    for (path, bytes) in &shared.files {
        let hash = |real: String| state.hashes.get(path).cloned().unwrap_or(real);
        entries.push(if bytes.len() >= LFS_BYTES {
            let oid = hash(sha256(bytes));
            json!({ "type": "file", "path": path, "size": bytes.len(), "oid": "0".repeat(40), "lfs": { "oid": oid, "size": bytes.len() } })
        } else {
            json!({ "type": "file", "path": path, "size": bytes.len(), "oid": hash(git_hash(bytes)) })
        });
    }
    entries.extend(state.extra.iter().cloned());
    let to = state.page_size.map_or(entries.len(), |size| (from + size).min(entries.len()));
    let mut headers = Vec::new();
    if to < entries.len() {
        headers.push(("Link", format!("<https://elsewhere.invalid{path}?recursive=true&cursor={to}>; rel=\"next\"")));
    }
    let page = Value::from(entries[from..to].to_vec());
    drop(state);
    json_answer(out, &page, &headers)
}

/// Answers with a file's content, or a range of it, spoilt by `fault`.
fn content(
    shared: &Shared,
    request: &Request,
    bytes: &[u8],
    fault: Option<Fault>,
    out: &mut TcpStream,
) -> std::io::Result<bool> {
    let changed = matches!(fault, Some(Fault::Changed));
    let etag = format!("\"{}{}\"", git_hash(bytes), if changed { "-2" } else { "" });
    let range =
        request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let same = request.headers.get("if-range").is_none_or(|tag| *tag == etag);
    let range: Option<usize> = range.filter(|_| same && !matches!(fault, Some(Fault::IgnoreRange)));
    let mut headers = vec![("Content-Type", "application/octet-stream".to_owned())];
    if !shared.state.lock().unwrap().secretive {
        headers.extend([("ETag", etag), ("X-Repo-Commit", COMMIT.to_owned())]);
        if bytes.len() >= LFS_BYTES {
            headers.push(("X-Linked-Etag", format!("\"{}\"", sha256(bytes))));
            headers.push(("X-Linked-Size", bytes.len().to_string()));
        }
    }
    let (code, from) = match range {
        Some(from) if from >= bytes.len() => return head(out, 416, &headers, 0).map(|()| true),
        Some(from) => {
            let shown = if matches!(fault, Some(Fault::OtherRange)) { from + 1 } else { from };
            headers.push(("Content-Range", format!("bytes {shown}-{}/{}", bytes.len() - 1, bytes.len())));
            (206, from)
        }
        None => (200, 0),
    };
    let mut body = bytes[from..].to_vec();
    head(out, code, &headers, body.len())?;
    if request.method == "HEAD" {
        return Ok(true);
    }
    match fault {
        Some(Fault::Cut(percent)) => {
            out.write_all(&body[..body.len() * percent / 100])?;
            out.shutdown(std::net::Shutdown::Both)?;
            return Ok(false);
        }
        Some(Fault::Flip) => {
            let middle = body.len() / 2;
            body[middle] ^= 1;
        }
        Some(Fault::Stall(at)) => {
            let at = at.min(body.len());
            out.write_all(&body[..at])?;
            let mut state = shared.state.lock().unwrap();
            state.stalled += 1;
            shared.changed.notify_all();
            drop(shared.changed.wait_while(state, |state| !state.released).unwrap());
            return out.write_all(&body[at..]).map(|()| true);
        }
        Some(Fault::Trickle) => {
            for piece in body.chunks(997) {
                out.write_all(piece)?;
            }
            return Ok(true);
        }
        _ => {}
    }
    out.write_all(&body).map(|()| true)
}

/// The directory of a small model in the layout of BAAI's repository: pytorch_model.bin, heads in .pt files, sentencepiece.bpe.model.
pub fn model_of_pytorch() -> PathBuf {
    crate::data("models/torch-h24")
}

/// The directory of a small model with heads for lexical weights and ColBERT.
pub fn small_model() -> PathBuf {
    crate::data("models/f16-h128")
}
