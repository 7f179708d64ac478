//! What the tests of `trivec pull` share: a home directory for each test, a hub on loopback, and how a run's outcome is checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::closed_port::ClosedPort;
use crate::hub::{COMMIT, Hub, small_model};
pub use crate::wait;

/// An address where nobody listens.
pub fn nowhere() -> String {
    static PORT: LazyLock<ClosedPort> = LazyLock::new(ClosedPort::new);
    format!("http://127.0.0.1:{}", PORT.port)
}

/// A home directory for one test, and a hub that serves one model.
pub struct World {
    pub directory: TempDir,
    pub hub: Hub,
    /// The directory of the model that the hub serves.
    pub model: PathBuf,
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

impl World {
    /// With a hub that serves the small model.
    pub fn new() -> World {
        World::serving(&small_model())
    }

    /// With a hub that serves the files of the directory `model`.
    pub fn serving(model: &Path) -> World {
        World { directory: tempfile::tempdir().unwrap(), hub: Hub::serve(model), model: model.to_path_buf() }
    }

    /// The directory that `TRIVEC_HOME` names.
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// A command that runs `trivec` with this home, one thread and this hub, and without settings of the caller's environment. ModelScope
    /// cannot be reached.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(crate::program::path());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().to_ascii_uppercase();
            if ["TRIVEC_", "HF_", "MODELSCOPE_", "XDG_"].iter().any(|prefix| name.starts_with(prefix))
                || name.ends_with("_PROXY")
            {
                command.env_remove(&name).env_remove(name.to_ascii_lowercase());
            }
        }
        command
            .args(args)
            .stdin(Stdio::null())
            .env("HOME", self.directory.path())
            .env("TRIVEC_HOME", self.home())
            .env("TRIVEC_THREADS", "1")
            .env("TRIVEC_RETRY_DELAY", "0.001")
            // So long that a process that merely waits for a processor does not count as stalled. Tests of stalls set less.
            .env("TRIVEC_STALL_TIMEOUT", "600")
            .env("HF_ENDPOINT", &self.hub.url)
            .env("MODELSCOPE_ENDPOINT", nowhere());
        command
    }

    /// Runs `trivec` with these arguments to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs `trivec pull bge-m3` from Hugging Face's side of the hub, with further arguments.
    pub fn pull(&self, args: &[&str]) -> Output {
        self.run(&[&["pull", "bge-m3", "--from", "hf"], args].concat())
    }

    /// What `trivec models --json` prints.
    pub fn models(&self) -> Value {
        serde_json::from_str(&stdout(&self.run(&["models", "--json"]))).unwrap()
    }

    /// Asserts that no model is installed, that none is damaged, and that the starter is the one in use.
    pub fn assert_clean(&self) {
        let models = self.models();
        assert_eq!((models["models"].as_array().unwrap().len(), &models["in_use"]), (0, &"starter".into()), "{models}");
        assert_eq!(models["damaged"], serde_json::json!([]));
    }

    /// Asserts that bge-m3 is in use, that it embeds nearly as its source does, and that no downloaded file is left.
    pub fn assert_installed(&self) {
        let models = self.models();
        assert_eq!((&models["in_use"], &models["models"][0]["name"]), (&"bge-m3".into(), &"bge-m3".into()), "{models}");
        let embed = |model: &[&str]| {
            let output = self.run(&[&["embed", "some text"], model].concat());
            let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
            json["dense"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<f64>>()
        };
        let (found, expected) = (embed(&[]), embed(&["--model", self.model.to_str().unwrap()]));
        let cosine: f64 = found.iter().zip(&expected).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.99, "{cosine}");
        let sources = self.home().join("sources");
        let left: Vec<_> = fs::read_dir(&sources).into_iter().flatten().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Where the pull of bge-m3 downloads the file `path`.
    pub fn source(&self, path: &str) -> PathBuf {
        self.home().join("sources/huggingface--BAAI--bge-m3").join(COMMIT).join(path)
    }

    /// Where the packed file of bge-m3 is.
    pub fn packed_directory(&self) -> PathBuf {
        self.home().join("models/bge-m3")
    }
}

/// The standard output of a run, which must have succeeded.
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that a run ended with this exit code and without a panic, and that its error output contains all `parts`.
#[track_caller]
pub fn assert_fails(output: &Output, code: i32, parts: &[&str]) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

/// Kills a process, and waits for its end.
pub fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Starts a command whose output can be read later.
pub fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The length of a file; 0 if there is none.
pub fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}
