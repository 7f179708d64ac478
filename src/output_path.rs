//! Checks a path before a file is written there.

use std::io::ErrorKind;
use std::path::Path;

/// Returns what is wrong if the directory in which `path` lies does not exist or is not a directory; `None` if nothing is known to be wrong.
pub fn missing_directory(path: &Path) -> Option<String> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty())?;
    let shown = directory.display();
    match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => None,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Some(format!("there is no directory `{shown}` (`mkdir -p` makes it)"))
        }
        Ok(_) => Some(format!("`{shown}` is not a directory")),
        Err(e) if e.kind() == ErrorKind::NotADirectory => Some(format!("`{shown}` is below a file")),
        // Any other error shows when the file is created.
        Err(_) => None,
    }
}
