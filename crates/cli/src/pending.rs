//! Output files that appear under their names only when they are complete: checks of their paths, and the temporary files that hold them
//! before. A device or a pipe is written to directly.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::exit::{self, Failure, Result};
use trivec::Model;
use trivec::output_path::missing_directory;
use trivec_hub::staged::drop_from_cache;

/// Checks the output path that `option` gives, and returns the path to which symbolic links lead from it. Fails if it names a directory, or
/// if its parent directory does not exist.
pub(super) fn resolve_output(path: &Path, option: &str) -> Result<PathBuf> {
    if path.is_dir() {
        return Err(Failure::usage(format!("{option}: {} is a directory, expected a file", path.display())));
    }
    if path.as_os_str().as_encoded_bytes().ends_with(std::path::MAIN_SEPARATOR_STR.as_bytes()) {
        return Err(Failure::usage(format!("{option}: {} names a directory, expected a file", path.display())));
    }
    // A symbolic link is followed, so that the file it leads to is replaced and not the link. But a link such as /dev/stdout may lead to a
    // pipe, whose name `pipe:[…]` is no path.
    if is_special(path) {
        return Ok(path.to_path_buf());
    }
    let path = followed(path)?;
    check_directory(&path)?;
    Ok(std::fs::canonicalize(&path).unwrap_or(path))
}

/// How many symbolic links in a row are followed before the path is refused as a loop: 40, as Linux itself does.
const MOST_LINKS: usize = 40;

/// The path that the symbolic link `path` leads to, even if there is no file yet; `path` itself if it is no link.
fn followed(path: &Path) -> Result<PathBuf> {
    let mut at = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&at) {
            Ok(target) => at = directory_of(&at).join(target),
            Err(_) => return Ok(at),
        }
    }
    Err(Failure::io_path(path, &io::Error::other("a link that leads to itself, or through too many others")))
}

/// Refuses an output that would replace one of `inputs`, which are files that are read, each with what the error calls it.
pub(super) fn refuse_input<'a>(
    output: &Path,
    option: &str,
    inputs: impl IntoIterator<Item = (&'a Path, &'a str)>,
) -> Result<()> {
    match inputs.into_iter().find(|(input, _)| same_file(input, output)) {
        Some((_, what)) => Err(Failure::option(option, format!("{} is {what}", output.display()))),
        None => Ok(()),
    }
}

/// The absolute path, without links and dots, of a file that may not exist yet. `None` for a device or a pipe, and if its directory does not
/// exist.
fn whole_path(path: &Path) -> Option<PathBuf> {
    if is_special(path) {
        return None;
    }
    let path = followed(path).ok()?;
    Some(std::fs::canonicalize(directory_of(&path)).ok()?.join(path.file_name()?))
}

/// Refuses an output that would lie among the files of a directory that is read, such as an index.
pub(super) fn refuse_inside(output: &Path, option: &str, directory: &Path, what: &str) -> Result<()> {
    let inside = |(path, directory): (PathBuf, PathBuf)| path.starts_with(directory);
    match whole_path(output).zip(std::fs::canonicalize(directory).ok()).is_some_and(inside) {
        true => Err(Failure::option(option, format!("{} is among the files of {what}", output.display()))),
        false => Ok(()),
    }
}

/// The files of a cache at `path`: the database, the files of SQLite beside it, and the lock file.
pub(super) fn cache_files(path: &Path) -> Vec<PathBuf> {
    let beside = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    ["", "-wal", "-shm", "-journal", ".lock"].into_iter().map(beside).collect()
}

/// Refuses an output that would replace a file of the model.
pub(super) fn refuse_model_file(output: &Path, option: &str, model: &Model) -> Result<()> {
    let place = Path::new(&model.info().name);
    // `contents` has one entry with an empty name for a packed model, which is one file.
    let files =
        model.contents().into_iter().map(|(name, _)| if name.is_empty() { place.into() } else { place.join(name) });
    let files: Vec<PathBuf> = files.collect();
    refuse_input(output, option, files.iter().map(|file| (file.as_path(), "a file of the model")))
}

/// Refuses a path whose parent directory does not exist. No command creates it, because an output under a mistyped path would not be found
/// again.
pub(super) fn check_directory(path: &Path) -> Result<()> {
    match missing_directory(path) {
        Some(what) => Err(Failure::Message { code: exit::IO, message: format!("{}: {what}", path.display()) }),
        None => Ok(()),
    }
}

/// Whether something other than a file is there: a device, a pipe, a terminal. It is written to, never replaced.
pub(super) fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// The directory for temporary files that hold parts of an incomplete output.
pub(super) struct Aside {
    pub directory: PathBuf,
    /// Whether it is the system's directory for temporary files, because the output is standard output, a device or a pipe.
    pub system: bool,
}

impl Aside {
    /// The directory in which the output file `path` is; the system's for standard output (`None`), a device or a pipe.
    pub(super) fn of(path: Option<&Path>) -> Aside {
        match path.filter(|path| !is_special(path)) {
            Some(path) => Aside { directory: directory_of(path).to_path_buf(), system: false },
            None => Aside { directory: std::env::temp_dir(), system: true },
        }
    }

    /// The failure for an error of a temporary file in this directory.
    pub(super) fn failure(&self, error: &io::Error) -> Failure {
        let directory = self.directory.display();
        if !self.system {
            return Failure::io(format!("{directory}: a temporary file for the output"), error);
        }
        let advice = "more than some megabytes of what goes into a pipe are kept in a file until they are complete: set TMPDIR to a \
                      directory with room for it, or write to a file";
        Failure::io(
            format!("{directory}: a temporary file for the output"),
            &io::Error::new(error.kind(), format!("{error}; {advice}")),
        )
    }
}

/// An output that is not complete yet.
pub(super) enum Pending {
    /// A file without a name (`O_TMPFILE`), of which nothing is left if the program is killed.
    #[cfg(target_os = "linux")]
    Unnamed { file: File, directory: PathBuf },
    /// A hidden file in the output's directory, where unnamed files cannot be used. It is removed when this is dropped.
    Named(NamedTempFile),
    /// A device or a pipe, which is written to directly.
    Special(File),
}

impl Pending {
    /// Creates a file in the output's directory, with these permissions or the usual ones under the umask.
    fn create(directory: &Path, permissions: Option<Permissions>) -> io::Result<Pending> {
        #[cfg(target_os = "linux")]
        if let Some(file) = unnamed(directory, permissions.clone()) {
            return Ok(Pending::Unnamed { file, directory: directory.to_path_buf() });
        }
        let mut builder = hidden();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(permissions.unwrap_or_else(|| Permissions::from_mode(0o666)));
        }
        #[cfg(not(unix))]
        let _ = permissions;
        builder.tempfile_in(directory).map(Pending::Named)
    }

    fn file(&self) -> &File {
        match self {
            #[cfg(target_os = "linux")]
            Pending::Unnamed { file, .. } => file,
            Pending::Named(file) => file.as_file(),
            Pending::Special(file) => file,
        }
    }

    /// Gives the finished file the name `path`, and replaces a file that has this name. Does nothing for a device or a pipe.
    fn persist(self, path: &Path) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Pending::Unnamed { file, directory } => {
                use rustix::fs::{AtFlags, CWD, linkat};
                // `linkat` cannot replace a file, but renaming can: the file gets a hidden name first, and is then renamed.
                let from = of_descriptor(&file);
                let linked = hidden().make_in(&directory, |hidden| {
                    linkat(CWD, &from, CWD, hidden, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
                })?;
                linked.into_temp_path().persist(path).map_err(|e| e.error)
            }
            Pending::Named(file) => file.persist(path).map(drop).map_err(|e| e.error),
            Pending::Special(_) => Ok(()),
        }
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

/// Makes hidden names for files in an output's directory.
fn hidden() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".trivec-").suffix(".tmp");
    builder
}

/// Creates a file without a name. `None` if the file system has no such files, or if /proc does not show the file, which gets its name
/// through that path later.
#[cfg(target_os = "linux")]
fn unnamed(directory: &Path, permissions: Option<Permissions>) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(open(directory, flags, Mode::from_raw_mode(0o666)).ok()?);
    if let Some(permissions) = permissions {
        file.set_permissions(permissions).ok()?;
    }
    std::fs::metadata(of_descriptor(&file)).ok()?.is_file().then_some(file)
}

/// The path under /proc of a file that is open.
#[cfg(target_os = "linux")]
fn of_descriptor(file: &File) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Opens the output `path`, which `option` gives: a temporary file in its directory, or the device or pipe that is there. Also returns the
/// path for [`move_into_place`].
pub(super) fn create_beside(path: &Path, option: &str) -> Result<(PathBuf, BufWriter<Pending>)> {
    let path = resolve_output(path, option)?;
    let failed = |e: io::Error| Failure::io_path(&path, &of_system(e));
    if is_special(&path) {
        let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
        return Ok((path, BufWriter::with_capacity(1 << 16, Pending::Special(file))));
    }
    // A new file gets the usual permissions under the umask; an existing file keeps its own.
    let permissions = std::fs::metadata(&path).ok().filter(Metadata::is_file).map(|metadata| metadata.permissions());
    let file = Pending::create(directory_of(&path), permissions).map_err(failed)?;
    Ok((path, BufWriter::with_capacity(1 << 16, file)))
}

/// The error without the path of the hidden file, which `tempfile` adds to what the system says.
pub(super) fn of_system(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path \"") {
        Some((what, _)) => io::Error::new(error.kind(), what),
        None => error,
    }
}

/// Gives the complete file its name, after its bytes have reached the disk. Does nothing more for a device or a pipe than to flush it.
pub(super) fn move_into_place(path: &Path, file: BufWriter<Pending>) -> Result<()> {
    settle(path, file, |_| ())
}

/// As [`move_into_place`], for a packed model: its pages are dropped from the page cache, so that the next process that maps it gets huge
/// pages (the pages of a file that was just written are small, and would stay small).
pub(super) fn move_model_into_place(path: &Path, file: BufWriter<Pending>) -> Result<()> {
    settle(path, file, drop_from_cache)
}

/// Does what [`move_into_place`] says. `on_disk` gets the file once its bytes have reached the disk, before it has its name.
fn settle(path: &Path, file: BufWriter<Pending>, on_disk: impl Fn(&File)) -> Result<()> {
    let fail = |e: io::Error| Failure::io_path(path, &e);
    let file = match file.into_inner() {
        Ok(file) => file,
        // The reader has closed the pipe, which is not an error, as on standard output.
        Err(e) if e.error().kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        Err(e) => return Err(fail(e.into_error())),
    };
    if matches!(file, Pending::Special(_)) {
        return Ok(());
    }
    file.file().sync_all().map_err(fail)?;
    on_disk(file.file());
    file.persist(path).map_err(fail)
}

/// The directory of a path: its parent, or the current directory.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether both paths lead to the same file.
pub(super) fn same_file(a: &Path, b: &Path) -> bool {
    // Equal paths are the same file even before it exists: it may be created before the other is written.
    if let (Some(a), Some(b)) = (whole_path(a), whole_path(b))
        && a == b
    {
        return true;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        match (std::fs::metadata(a), std::fs::metadata(b)) {
            (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        }
    }
    #[cfg(not(unix))]
    {
        matches!((std::fs::canonicalize(a), std::fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
    }
}
