//! Runs the binary as for a user who has installed no model and set none of its variables.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The directory into which Cargo builds. The running test lies in `deps` below it.
fn directory() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// The program under test, which Cargo has built for the tests of `trivec-cli`.
pub fn path() -> PathBuf {
    let path = directory().join(format!("trivec{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is missing: these tests belong to trivec-cli", path.display());
    path
}

/// Removes trivec's own variables from the environment of `command`, and sets a `TRIVEC_HOME` in which no model is installed.
pub fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TRIVEC_")) {
        command.env_remove(name);
    }
    command.env("TRIVEC_HOME", empty_home())
}

/// A command that runs `trivec` in the environment that [`clean`] makes.
pub fn trivec() -> Command {
    let mut command = Command::new(path());
    clean(&mut command);
    command
}

/// Returns a path for `TRIVEC_HOME` at which nothing exists yet; the directory is not made. No two calls return the same path, so that no
/// test finds what another one has stored.
pub fn empty_home() -> PathBuf {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let home = directory().join("tmp").join(format!("home-{}-{call}", std::process::id()));
    // An earlier run can have had the same process id.
    let _ = std::fs::remove_dir_all(&home);
    home
}
