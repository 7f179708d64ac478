//! Where installed models live.
//!
//! ```text
//! $TRIVEC_HOME                       else $XDG_DATA_HOME/trivec, else ~/.local/share/trivec (Windows: %LOCALAPPDATA%\trivec)
//!   default                          the name of the model in use; without it, the one installed last
//!   models/NAME.json                 a record: what is installed, and in which file. A model is installed if it has a record
//!   models/NAME/*.safetensors        packed files
//!   sources/HUB--ORG--REPO/REVISION/ downloaded files, removed when the model is in place
//!   packed/                          packed copies of checkpoints that lie elsewhere (`copies.rs`)
//!   tuning/                          how this machine reads weights fastest, one file for each kind of CPU (written by the engine)
//!   locks/
//! ```
//! A record or `default` is replaced by renaming a complete new file over it.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::HubError;
use super::lock::Lock;
use super::names::{STARTER, check_name, file_name};

/// The layout of records that this version writes and reads.
const RECORD_FORMAT: u32 = 1;

/// The largest file that is read as a record or as `default`.
const MAX_RECORD_BYTES: u64 = 1 << 20;

/// An installed model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the record's layout.
    pub format: u32,
    /// The name that users write.
    pub name: String,
    /// `huggingface` or `modelscope`.
    pub hub: String,
    /// The repository that it came from.
    pub repository: String,
    /// The commit; on ModelScope, which names none for a whole repository, a digest of its files' hashes.
    pub revision: String,
    /// How the weights are stored: `int8` …
    pub weights: String,
    /// The packed file, relative to `models/`.
    pub file: String,
    /// Length of the packed file.
    pub bytes: u64,
    /// Mean cosine of dense vectors to those of the source.
    pub fidelity: Option<f64>,
    /// The whole report of the comparison with the source.
    pub verification: serde_json::Value,
    /// Whether the downloaded files were to be kept.
    #[serde(default)]
    pub keep_source: bool,
    /// When the model was installed, in seconds since 1970.
    pub installed: u64,
    /// The nanoseconds of that time: they order installations within one second.
    #[serde(default)]
    pub installed_nanos: u32,
}

/// A model whose record or file is not what it should be.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// The model's name, as its record's file name has it.
    pub name: String,
    /// What is wrong.
    pub what: String,
}

/// The model that is used when none is asked for.
#[derive(Debug)]
pub enum Choice {
    /// The model inside the binary.
    Starter,
    /// The installed model with this record.
    Installed(Box<Record>),
}

/// The directory of models.
///
/// ```
/// use trivec_hub::Store;
///
/// # let directory = std::env::temp_dir().join("trivec-no-such-store");
/// let store = Store::at(&directory); // Store::from_env() is the one that the program `trivec` uses
/// let (models, damaged) = store.list()?;
/// assert!(models.is_empty() && damaged.is_empty() && store.find("bge-m3")?.is_none());
/// # Ok::<(), trivec_hub::HubError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Store {
    home: PathBuf,
}

impl Store {
    /// The store in the directory `home`. Nothing is created yet.
    pub fn at(home: impl Into<PathBuf>) -> Store {
        Store { home: home.into() }
    }

    /// The store in the directory that the environment names. Nothing is created yet.
    ///
    /// # Errors
    /// [`HubErrorKind::Usage`](crate::HubErrorKind::Usage) if no variable names a directory.
    pub fn from_env() -> Result<Store, HubError> {
        home(&|name| std::env::var_os(name).filter(|value| !value.is_empty())).map(|home| Store { home }).ok_or_else(
            || HubError::usage("there is no home directory to keep models in: set TRIVEC_HOME to a directory"),
        )
    }

    /// The directory itself.
    pub fn home(&self) -> &Path {
        &self.home
    }

    fn models(&self) -> PathBuf {
        self.home.join("models")
    }

    fn record_path(&self, name: &str) -> PathBuf {
        self.models().join(format!("{}.json", file_name(name)))
    }

    /// Where the packed files of `name` are.
    pub fn model_directory(&self, name: &str) -> PathBuf {
        self.models().join(file_name(name))
    }

    /// Where the downloaded files of a repository are, in one directory for each revision.
    pub fn source_directory(&self, hub: &str, repository: &str) -> PathBuf {
        self.home.join("sources").join(format!("{hub}--{}", file_name(repository)))
    }

    /// The packed file of an installed model.
    pub fn path(&self, record: &Record) -> PathBuf {
        self.models().join(&record.file)
    }

    /// Where an engine keeps what it has measured of this machine ([`trivec::LoadOptions::tuning`]).
    pub fn tuning(&self) -> PathBuf {
        self.home.join("tuning")
    }

    /// Takes the lock for work on the model called `name`. If another process holds it, then with `wait` this calls `waiting` once with a
    /// sentence for the user, and blocks until the lock is free.
    ///
    /// # Errors
    /// [`HubErrorKind::Busy`](crate::HubErrorKind::Busy) if another process holds the lock and `wait` is false;
    /// [`HubErrorKind::Io`](crate::HubErrorKind::Io).
    pub fn lock_model(&self, name: &str, wait: bool, waiting: &dyn Fn(&str)) -> Result<Lock, HubError> {
        Lock::acquire(&self.lock_path(name), name, wait, waiting)
    }

    /// Takes the lock for work on the files that were downloaded from `repository`, on whichever hub. `wait` and `waiting` mean what they
    /// mean in [`Store::lock_model`].
    ///
    /// # Errors
    /// As [`Store::lock_model`].
    pub fn lock_source(&self, repository: &str, wait: bool, waiting: &dyn Fn(&str)) -> Result<Lock, HubError> {
        let what = format!("the downloaded files of {repository}");
        Lock::acquire(&self.lock_path(&format!("source-{repository}")), &what, wait, waiting)
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.home.join("locks").join(format!("{}.lock", file_name(name)))
    }

    /// Lists the installed models and, apart from them, the damaged ones, both sorted by name.
    ///
    /// # Errors
    /// [`HubErrorKind::Io`](crate::HubErrorKind::Io) if the directory cannot be read.
    pub fn list(&self) -> Result<(Vec<Record>, Vec<Damaged>), HubError> {
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        let models = self.models();
        let entries = match fs::read_dir(&models) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((records, damaged)),
            Err(e) => return Err(HubError::io(&models, &e)),
        };
        for entry in entries {
            let path = entry.map_err(|e| HubError::io(&models, &e))?.path();
            let Some(stem) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else { continue };
            // Our own temporary files begin with a dot.
            if stem.starts_with('.') {
                continue;
            }
            match self.read(&path) {
                Ok(record) => records.push(record),
                Err(what) => damaged.push(Damaged { name: stem.replacen("--", "/", 1), what }),
            }
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        damaged.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((records, damaged))
    }

    /// Finds the installed model called `name`, if there is one.
    ///
    /// # Errors
    /// [`HubErrorKind::Model`](crate::HubErrorKind::Model) if it is damaged.
    pub fn find(&self, name: &str) -> Result<Option<Record>, HubError> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let path = self.record_path(name);
        if !path.exists() {
            return Ok(None);
        }
        self.read(&path).map(Some).map_err(|what| {
            HubError::model(format!(
                "the installed model `{name}` cannot be used: {what}; `trivec pull {name} --force` fetches it again, \
                 `trivec models rm {name}` removes it"
            ))
        })
    }

    /// Reads a record, and checks that its packed file exists and has the length that the record says.
    fn read(&self, path: &Path) -> Result<Record, String> {
        let text = read_small(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let record: Record =
            serde_json::from_slice(&text).map_err(|e| format!("{}: the record is damaged: {e}", path.display()))?;
        let bad = |what: String| Err(format!("{}: {what}", path.display()));
        if record.format != RECORD_FORMAT {
            return bad(format!("the record has format {}, expected {RECORD_FORMAT}", record.format));
        }
        if check_name(&record.name).is_err() || self.record_path(&record.name) != path {
            return bad(format!("the record is of `{}`", record.name));
        }
        if !trivec::internal::is_plain_relative(&record.file) {
            return bad(format!("the record names the file `{}`", record.file));
        }
        let file = self.path(&record);
        match fs::metadata(&file) {
            Ok(metadata) if !metadata.is_file() => Err(format!("{}: not a file", file.display())),
            Ok(metadata) if metadata.len() != record.bytes => {
                Err(format!("{}: the file has {} bytes, expected {}", file.display(), metadata.len(), record.bytes))
            }
            Ok(_) => Ok(record),
            Err(e) => Err(format!("{}: {e}", file.display())),
        }
    }

    /// Finds the model to use when none is asked for: the one that was chosen, else the one that was installed last, else the starter.
    ///
    /// # Errors
    /// [`HubErrorKind::Model`](crate::HubErrorKind::Model) if the chosen one is damaged or not installed;
    /// [`HubErrorKind::Io`](crate::HubErrorKind::Io).
    pub fn default_model(&self) -> Result<Choice, HubError> {
        let path = self.home.join("default");
        match read_small(&path) {
            Ok(text) => {
                let name = String::from_utf8(text).unwrap_or_default();
                let name = name.trim();
                if name == STARTER {
                    return Ok(Choice::Starter);
                }
                if check_name(name).is_err() {
                    let what = "it names no model; `trivec models use NAME` writes it anew";
                    return Err(HubError::model(format!("{}: {what}", path.display())));
                }
                match self.find(name)? {
                    Some(record) => Ok(Choice::Installed(Box::new(record))),
                    None => Err(HubError::model(format!(
                        "the model in use, `{name}`, is not installed: `trivec pull {name}` installs it, `trivec models use \
                         NAME` chooses another (`{STARTER}` is built in)"
                    ))),
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let newest = self.list()?.0.into_iter().max_by_key(|record| (record.installed, record.installed_nanos));
                Ok(newest.map_or(Choice::Starter, |record| Choice::Installed(Box::new(record))))
            }
            Err(e) => Err(HubError::io(&path, &e)),
        }
    }

    /// Makes `name` the model in use; `None` forgets the choice.
    ///
    /// # Errors
    /// [`HubErrorKind::Io`](crate::HubErrorKind::Io).
    pub fn set_default(&self, name: Option<&str>) -> Result<(), HubError> {
        let path = self.home.join("default");
        match name {
            Some(name) => write_whole(&path, format!("{name}\n").as_bytes()),
            None => match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(HubError::io(&path, &e)),
                _ => Ok(()),
            },
        }
    }

    /// Writes the record of a model whose packed file is in place, which installs it, and makes it the model in use. All other files in its
    /// directory are removed.
    ///
    /// # Errors
    /// [`HubErrorKind::Io`](crate::HubErrorKind::Io) if the record, or the choice of the model in use, cannot be written.
    #[cfg_attr(not(feature = "fetch"), allow(dead_code))]
    pub fn install(&self, mut record: Record) -> Result<Record, HubError> {
        record.format = RECORD_FORMAT;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        (record.installed, record.installed_nanos) = (now.as_secs(), now.subsec_nanos());
        let text = serde_json::to_vec_pretty(&record).map_err(|e| HubError::model(e.to_string()))?;
        write_whole(&self.record_path(&record.name), &text)?;
        self.set_default(Some(&record.name))?;
        // Removes the files of earlier installations. If that fails, the new one works all the same.
        let kept = self.path(&record);
        for path in entries_of(&self.model_directory(&record.name)).into_iter().filter(|path| *path != kept) {
            // A directory belongs to an interrupted packing in another format.
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        Ok(record)
    }

    /// Removes a model, and the files of all revisions that were downloaded from `repository` on either hub. `None` takes the repository
    /// from the model's record; if the record is missing or damaged, downloaded files stay. The record is deleted first, so a removal that
    /// is cut short leaves no model that looks installed. If the model was the one in use, that choice is forgotten. Returns the bytes of the
    /// removed files, without those of the record, or `None` if there was nothing to remove. The caller holds the locks of the model
    /// ([`Store::lock_model`]) and of the repository's files ([`Store::lock_source`]).
    ///
    /// # Errors
    /// [`HubErrorKind::Usage`](crate::HubErrorKind::Usage) for a name that cannot be a model's; [`HubErrorKind::Io`](crate::HubErrorKind::Io).
    pub fn remove(&self, name: &str, repository: Option<&str>) -> Result<Option<u64>, HubError> {
        check_name(name)?;
        let record = self.record_path(name);
        let mut freed = None;
        let repository = repository.map(str::to_owned).or_else(|| self.read(&record).ok().map(|r| r.repository));
        match fs::remove_file(&record) {
            Ok(()) => freed = Some(0),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(HubError::io(&record, &e)),
        }
        let mut directories = vec![self.model_directory(name)];
        if let Some(repository) = repository {
            directories.extend(["huggingface", "modelscope"].map(|hub| self.source_directory(hub, &repository)));
        }
        for directory in directories.into_iter().filter(|directory| directory.exists()) {
            let bytes = size_of(&directory);
            fs::remove_dir_all(&directory).map_err(|e| HubError::io(&directory, &e))?;
            freed = Some(freed.unwrap_or(0) + bytes);
        }
        let default = read_small(&self.home.join("default")).ok().and_then(|text| String::from_utf8(text).ok());
        if default.is_some_and(|default| default.trim() == name) {
            self.set_default(None)?;
        }
        Ok(freed)
    }
}

/// The store's directory, from the values that `variable` returns for variables of the environment.
fn home(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(home) = variable("TRIVEC_HOME") {
        return Some(home.into());
    }
    // The specification of XDG says that relative paths are to be ignored.
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(data) = absolute("XDG_DATA_HOME") {
        return Some(data.join("trivec"));
    }
    if cfg!(windows) {
        return absolute("LOCALAPPDATA").map(|data| data.join("trivec"));
    }
    absolute("HOME").map(|home| home.join(".local/share/trivec"))
}

/// Reads a record or `default`. A file that is larger than either can be, or not a regular one, is an error.
pub(super) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_RECORD_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a small file"));
    }
    fs::read(path)
}

/// Replaces the file at `path` in one step, by renaming a complete new file over it.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    let io = |e: io::Error| HubError::io(path, &e);
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(io)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".new-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Permissions of any new file: the umask applies.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(directory).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    sync_directory(directory);
    Ok(())
}

/// Flushes a rename to disk, if the system supports it.
pub(super) fn sync_directory(directory: &Path) {
    #[cfg(unix)]
    if let Ok(directory) = fs::File::open(directory) {
        // The file itself is on disk. If its name is lost in a power failure, it is missing, but not damaged.
        let _ = directory.sync_all();
    }
    #[cfg(not(unix))]
    let _ = directory;
}

/// The paths in a directory; none if it cannot be read.
fn entries_of(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Bytes of the files below `directory`, links not counted.
pub(super) fn size_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HubErrorKind;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store { home: directory.path().join("home") };
        (directory, store)
    }

    /// Installs a model whose packed file has these bytes.
    fn install(store: &Store, name: &str, bytes: &[u8]) -> Record {
        let directory = store.model_directory(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("a.safetensors"), bytes).unwrap();
        let record = Record {
            format: 0,
            name: name.to_owned(),
            hub: "huggingface".to_owned(),
            repository: "o/r".to_owned(),
            revision: "0".repeat(40),
            weights: "int8".to_owned(),
            file: format!("{}/a.safetensors", file_name(name)),
            bytes: bytes.len() as u64,
            fidelity: Some(0.999),
            verification: serde_json::Value::Null,
            keep_source: false,
            installed: 0,
            installed_nanos: 0,
        };
        store.install(record).unwrap()
    }

    /// The name of the model in use.
    fn default_name(store: &Store) -> String {
        match store.default_model().unwrap() {
            Choice::Starter => STARTER.to_owned(),
            Choice::Installed(record) => record.name,
        }
    }

    #[test]
    fn the_model_in_use_is_the_chosen_one_else_the_last_installed_else_the_starter() {
        let (_directory, store) = store();
        assert_eq!(default_name(&store), "starter");
        install(&store, "a", b"1");
        install(&store, "org/b", b"22");
        assert_eq!(default_name(&store), "org/b");
        store.set_default(Some("a")).unwrap();
        assert_eq!(default_name(&store), "a");
        store.set_default(Some("starter")).unwrap();
        assert_eq!(default_name(&store), "starter");
        store.set_default(Some("a")).unwrap();
        assert_eq!(store.remove("a", None).unwrap(), Some(1));
        assert_eq!(default_name(&store), "org/b");
        assert_eq!(store.remove("org/b", None).unwrap(), Some(2));
        assert_eq!(store.remove("org/b", None).unwrap(), None);
        assert_eq!(default_name(&store), "starter");
    }

    #[test]
    fn a_model_and_its_repository_have_locks_of_their_own() {
        let (_directory, store) = store();
        let never = |_: &str| panic!("nothing waits");
        let model = store.lock_model("o/r", false, &never).unwrap();
        let source = store.lock_source("o/r", false, &never).unwrap();
        let refused = [store.lock_model("o/r", false, &never), store.lock_source("o/r", false, &never)];
        for (refused, what) in refused.into_iter().zip(["working on o/r", "working on the downloaded files of o/r"]) {
            let error = refused.unwrap_err();
            // A library's caller has no command line, so the message names no option of one.
            assert!(error.kind == HubErrorKind::Busy && error.message.ends_with(what), "{error}");
        }
        drop((model, source));
        store.lock_source("o/r", false, &never).unwrap();
    }

    #[test]
    fn a_damaged_model_is_named_and_never_used() {
        let (_directory, store) = store();
        let record = install(&store, "a", b"content");
        let path = store.record_path("a");
        let good = fs::read(&path).unwrap();
        for (text, what) in [
            (b"{".to_vec(), "the record is damaged"),
            (vec![0xff; 10], "the record is damaged"),
            (
                String::from_utf8(good.clone()).unwrap().replace("\"format\": 1", "\"format\": 9").into_bytes(),
                "format 9",
            ),
            (String::from_utf8(good.clone()).unwrap().replace("\"a\"", "\"b\"").into_bytes(), "of `b`"),
            (String::from_utf8(good.clone()).unwrap().replace("a/a.safe", "../a.safe").into_bytes(), "names the file"),
            (vec![b' '; (MAX_RECORD_BYTES + 1) as usize], "not a small file"),
        ] {
            fs::write(&path, text).unwrap();
            let error = store.find("a").unwrap_err().message;
            assert!(error.contains(what) && error.contains("trivec pull a"), "{what}: {error}");
            assert!(store.default_model().is_err());
            let (records, damaged) = store.list().unwrap();
            assert!(records.is_empty() && damaged.len() == 1 && damaged[0].name == "a");
        }
        fs::write(&path, good).unwrap();
        fs::write(store.path(&record), b"short").unwrap();
        assert!(store.find("a").unwrap_err().message.contains("5 bytes, expected 7"));
        fs::remove_file(store.path(&record)).unwrap();
        assert!(store.find("a").is_err());
        fs::write(store.home.join("default"), b"../../x").unwrap();
        assert!(store.default_model().unwrap_err().message.contains("names no model"));
        fs::write(store.home.join("default"), b"gone").unwrap();
        assert!(store.default_model().unwrap_err().message.contains("not installed"));
    }

    #[test]
    fn an_installation_removes_the_models_earlier_files() {
        let (_directory, store) = store();
        install(&store, "a", b"1");
        fs::write(store.model_directory("a").join("old.safetensors"), b"old").unwrap();
        // A killed run has left what it had begun to pack.
        let begun = store.model_directory("a").join(".old.safetensors.packing");
        fs::create_dir(&begun).unwrap();
        fs::write(begun.join("data"), b"half").unwrap();
        install(&store, "a", b"2");
        assert_eq!(entries_of(&store.model_directory("a")), [store.model_directory("a").join("a.safetensors")]);
    }

    #[test]
    fn the_environment_names_the_directory_of_the_store() {
        let with = |set: &[(&str, &str)]| {
            let set: Vec<(String, OsString)> = set.iter().map(|(n, v)| ((*n).to_owned(), OsString::from(v))).collect();
            home(&move |name| set.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()))
        };
        assert_eq!(with(&[]), None);
        let all = [("TRIVEC_HOME", "/t"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(with(&all), Some("/t".into()));
        #[cfg(unix)]
        {
            assert_eq!(with(&all[1..]), Some("/x/trivec".into()));
            assert_eq!(with(&all[2..]), Some("/h/.local/share/trivec".into()));
            assert_eq!(with(&[("XDG_DATA_HOME", "relative"), ("HOME", "/h")]), Some("/h/.local/share/trivec".into()));
        }
    }
}
