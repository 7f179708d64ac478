//! Downloads that resume and are verified. A file gets its name only when its content is verified. Until then it is `NAME.part`, and
//! `NAME.etag` beside it holds the ETag of the version that the part belongs to.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ureq::http::header;

use super::address::Endpoint;
use super::client::{Answer, Client, Fault, refuse, refuse_html};
use super::error::{HubError, HubErrorKind};
use super::hash::{Hash, check};
use super::listing::{Listing, RemoteFile};
use super::store::sync_directory;

/// The most failed attempts for a file, even if each transfers something.
const MAX_ATTEMPTS: u32 = 200;

/// Progress of downloads. Its functions are called from several threads.
pub trait Progress: Sync {
    /// `files` are to be fetched, with `bytes` in all.
    fn begin(&self, files: usize, bytes: u64);
    /// The download of a file of `bytes` bytes begins, or goes on from byte `at`.
    fn start(&self, path: &str, bytes: u64, at: u64);
    /// `bytes` more bytes of a file have come.
    fn advance(&self, path: &str, bytes: u64);
    /// A file is complete and verified.
    fn done(&self, path: &str);
    /// The downloads are over, with or without success.
    fn end(&self);
    /// Something a person may want to know.
    fn note(&self, text: &str);
}

/// Ignores all progress.
impl Progress for () {
    fn begin(&self, _: usize, _: u64) {}
    fn start(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: &str, _: u64) {}
    fn done(&self, _: &str) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}
}

/// The path of a file while it is not complete and verified.
pub(super) fn part_path(path: &Path) -> PathBuf {
    with_ending(path, ".part")
}

/// The path of the file that holds the ETag of an incomplete file.
fn etag_path(path: &Path) -> PathBuf {
    with_ending(path, ".etag")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// The repository whose files are downloaded, and the directory they go to.
pub(super) struct Job<'a> {
    pub client: &'a Client,
    pub endpoint: &'a Endpoint,
    pub listing: &'a Listing,
    pub directory: &'a Path,
    pub progress: &'a dyn Progress,
}

impl Job<'_> {
    /// Fetches `files`, at most `parallel` at a time, the largest first. After the first error, which is returned, all downloads end.
    pub(super) fn fetch_all(&self, files: &[&RemoteFile], parallel: usize) -> Result<(), HubError> {
        if files.is_empty() {
            return Ok(());
        }
        self.progress.begin(files.len(), files.iter().map(|file| file.bytes).sum());
        let mut order: Vec<&RemoteFile> = files.to_vec();
        order.sort_by_key(|file| std::cmp::Reverse(file.bytes));
        let queue = Mutex::new(VecDeque::from(order));
        let failed = AtomicBool::new(false);
        let error = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..parallel.clamp(1, files.len()) {
                scope.spawn(|| {
                    while !failed.load(Ordering::Relaxed) {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(file) = next else { break };
                        if let Err(e) = self.fetch(file, &failed) {
                            failed.store(true, Ordering::Relaxed);
                            error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                        }
                    }
                });
            }
        });
        self.progress.end();
        error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Downloads one file, trying again after failures, verifies it and gives it its name. Once `stop` is set, it ends with an error.
    fn fetch(&self, file: &RemoteFile, stop: &AtomicBool) -> Result<(), HubError> {
        let path = self.directory.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| HubError::io(parent, &e))?;
        }
        let note = |text: &str| self.progress.note(text);
        let (mut failures, mut attempts) = (0, 0);
        let mut from_start = length(&part_path(&path)) == 0;
        loop {
            let before = length(&part_path(&path));
            match self.attempt(file, &path, stop) {
                Ok(()) => match check(&part_path(&path), file.bytes, &file.hash) {
                    Ok(Ok(())) => break,
                    Ok(Err(what)) => {
                        self.discard(&path)?;
                        // The part may have belonged to another version, or was damaged on disk. One download from the start decides.
                        if from_start {
                            return Err(HubError::model(format!("{}: {what}: not kept", self.url(file))));
                        }
                        note(&format!("{}: {what}: fetching it again from the start", file.path));
                        from_start = true;
                    }
                    Err(e) => return Err(HubError::io(&part_path(&path), &e)),
                },
                Err(Fault::Fatal(error)) => return Err(error),
                // Without a network too: it was there for the list of the files.
                Err(Fault::Transient { what, after, .. }) => {
                    // An attempt that transferred something resets the count, so that an unreliable connection can still complete a large
                    // file.
                    failures = if length(&part_path(&path)) > before { 1 } else { failures + 1 };
                    attempts += 1;
                    if attempts > MAX_ATTEMPTS {
                        return Err(HubError::new(HubErrorKind::Network, format!("{what}, after {attempts} attempts")));
                    }
                    self.client.pause(&what, failures, after, &note)?;
                }
            }
        }
        let part = part_path(&path);
        fs::rename(&part, &path).map_err(|e| HubError::io(&path, &e))?;
        sync_directory(path.parent().unwrap_or(self.directory));
        remove(&etag_path(&path))?;
        self.progress.done(&file.path);
        Ok(())
    }

    fn url(&self, file: &RemoteFile) -> String {
        self.listing.url(self.endpoint, &file.path)
    }

    /// Sends one request for what the part lacks, and appends the answer to the part.
    fn attempt(&self, file: &RemoteFile, path: &Path, stop: &AtomicBool) -> Result<(), Fault> {
        let part = part_path(path);
        let io = |e: std::io::Error| Fault::Fatal(HubError::io(&part, &e));
        let mut have = length(&part);
        let etag = fs::read_to_string(etag_path(path)).ok().filter(|etag| is_strong_etag(etag));
        // Without a hash or an ETag, a part cannot be matched with the current file.
        if have > file.bytes || (file.hash == Hash::Unknown && etag.is_none()) {
            self.discard(path).map_err(Fault::Fatal)?;
            have = 0;
        }
        self.progress.start(&file.path, file.bytes, have);
        if have == file.bytes && part.exists() {
            return Ok(());
        }
        let mut headers = Vec::new();
        if have > 0 {
            headers.push((header::RANGE, format!("bytes={have}-")));
            headers.extend(etag.map(|etag| (header::IF_RANGE, etag)));
        }
        let url = self.url(file);
        let mut answer = self.client.get(self.endpoint, &url, &headers)?;
        if answer.status.as_u16() == 416 {
            // The file on the server is shorter than the part, so the part belongs to something else.
            self.discard(path).map_err(Fault::Fatal)?;
            return Err(Fault::transient(format!("{url}: the server has no such range (416): starting again")));
        }
        refuse_html(&answer, &url)?;
        let at = self.starts_at(&answer, file, have, &url)?;
        if at < have {
            self.progress.start(&file.path, file.bytes, at);
        }
        let etag = answer.header(header::ETAG).filter(|etag| is_strong_etag(etag)).map(str::to_owned);
        match etag {
            Some(etag) => fs::write(etag_path(path), etag).map_err(io)?,
            None => remove(&etag_path(path)).map_err(Fault::Fatal)?,
        }
        let mut out = OpenOptions::new().write(true).create(true).truncate(false).open(&part).map_err(io)?;
        out.set_len(at).map_err(io)?;
        std::io::Seek::seek(&mut out, std::io::SeekFrom::Start(at)).map_err(io)?;
        let copied = self.copy(&mut answer, file, &mut out, at, stop);
        // Flushed to disk, so that the part survives a power failure.
        out.sync_all().map_err(io)?;
        copied.map_err(|fault| match fault {
            Fault::Transient { what, after, no_network } => {
                Fault::Transient { what: format!("{url}: {what}"), after, no_network }
            }
            fatal => fatal,
        })
    }

    /// The offset at which the answer's body begins: `have` if the server resumed there, else 0.
    fn starts_at(&self, answer: &Answer, file: &RemoteFile, have: u64, url: &str) -> Result<u64, Fault> {
        let length = answer.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let at = match answer.status.as_u16() {
            206 => {
                let range = answer.header(header::CONTENT_RANGE).unwrap_or_default();
                let expected = format!("bytes {have}-{}/{}", file.bytes.saturating_sub(1), file.bytes);
                if range != expected {
                    self.discard(&self.directory.join(&file.path)).map_err(Fault::Fatal)?;
                    return Err(Fault::transient(format!("{url}: the server sent `{range}`, expected `{expected}`")));
                }
                have
            }
            _ => 0,
        };
        match length {
            Some(length) if length != file.bytes - at => {
                let expected = file.bytes - at;
                Err(refuse(format!("{url}: the server offers {length} bytes, expected {expected}")))
            }
            _ => Ok(at),
        }
    }

    /// Appends the answer's body to the part `out`, which ends at byte `at`. A body that ends early, or is longer than the file, is a fault.
    fn copy(
        &self,
        answer: &mut Answer,
        file: &RemoteFile,
        out: &mut File,
        mut at: u64,
        stop: &AtomicBool,
    ) -> Result<(), Fault> {
        let mut buffer = vec![0; 1 << 17];
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(Fault::Fatal(HubError::new(HubErrorKind::Network, "another file could not be fetched")));
            }
            let read = match answer.body.read(&mut buffer) {
                Ok(read) => read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Fault::transient(format!("broken off after {at} of {} bytes: {e}", file.bytes))),
            };
            if read == 0 {
                break;
            }
            if read as u64 > file.bytes - at {
                return Err(refuse(format!("more than the expected {} bytes came", file.bytes)));
            }
            out.write_all(&buffer[..read])
                .map_err(|e| Fault::Fatal(HubError::io(&part_path(&self.directory.join(&file.path)), &e)))?;
            at += read as u64;
            self.progress.advance(&file.path, read as u64);
        }
        if at < file.bytes {
            return Err(Fault::transient(format!("broken off after {at} of {} bytes", file.bytes)));
        }
        Ok(())
    }

    /// Removes the part of the file at `path`, with its ETag.
    fn discard(&self, path: &Path) -> Result<(), HubError> {
        remove(&part_path(path))?;
        remove(&etag_path(path))
    }
}

/// The length of a file; 0 if there is none.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Removes a file; one that is not there is no error.
fn remove(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(HubError::io(path, &e)),
        _ => Ok(()),
    }
}

/// Whether an ETag is strong, so that it is the same only for the same bytes, as `If-Range` demands, and can be sent in a header.
fn is_strong_etag(etag: &str) -> bool {
    etag.len() < 500
        && etag.len() >= 2
        && etag.starts_with('"')
        && etag.ends_with('"')
        && etag.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strong_etags_are_sent_back() {
        assert!(is_strong_etag("\"abc\""));
        for bad in ["", "\"", "abc", "W/\"abc\"", "\"a\nb\"", "\"a\u{e9}\""] {
            assert!(!is_strong_etag(bad), "{bad:?}");
        }
    }

    #[test]
    fn endings_are_appended_to_whole_file_names() {
        assert_eq!(part_path(Path::new("a/b.json")), Path::new("a/b.json.part"));
        assert_eq!(etag_path(Path::new("a/b")), Path::new("a/b.etag"));
    }
}
