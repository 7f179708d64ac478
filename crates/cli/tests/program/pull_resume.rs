//! `trivec pull` when it is killed, when another one runs, and on a full disk; and what it installs: `trivec models` and `--model NAME`.

use trivec_testing::hub;
use trivec_testing::world;

use std::fs;
use std::process::{Command, Output, Stdio};

use hub::{COMMIT, Fault, small_model};
use serde_json::Value;
use world::wait::wait_until;
use world::{World, assert_fails, kill, length, nowhere, spawn, stderr, stdout};

#[test]
fn a_second_pull_is_refused_or_waits_for_the_first() {
    let world = World::new();
    world.hub.fault("/model.safetensors", 1, Fault::Stall(5000));
    let first = spawn(world.command(&["pull", "bge-m3"]));
    world.hub.wait_for_stall();
    let pid = first.id().to_string();
    assert_fails(&world.pull(&[]), 6, &["working on bge-m3", &pid, "--wait"]);
    let removal = world.run(&["models", "rm", "bge-m3"]);
    assert_fails(&removal, 6, &["working on bge-m3"]);
    assert!(!stderr(&removal).contains("--wait"), "models rm has no such option");
    world.assert_clean();
    let second = spawn(world.command(&["pull", "bge-m3", "--wait", "--json"]));
    world.hub.release();
    stdout(&first.wait_with_output().unwrap());
    let second = second.wait_with_output().unwrap();
    let json: Value = serde_json::from_str(&stdout(&second)).unwrap();
    assert_eq!((json["already_installed"].clone(), json["name"].clone()), (true.into(), "bge-m3".into()));
    world.assert_installed();
}

#[test]
fn a_pull_killed_while_it_lists_can_be_run_again() {
    let world = World::new();
    world.hub.fault("/tree/", 1, Fault::Hang);
    let child = spawn(world.command(&["pull", "bge-m3"]));
    wait_until("the listing is asked for", || {
        world.hub.requests().iter().any(|request| request.path.contains("/tree/"))
    });
    kill(child);
    world.assert_clean();
    stdout(&world.pull(&[]));
    world.assert_installed();
}

#[test]
fn a_pull_killed_while_it_downloads_resumes_there() {
    let world = World::new();
    let at = world.hub.file("model.safetensors").len() * 2 / 3;
    world.hub.fault("/model.safetensors", 1, Fault::Stall(at));
    let child = spawn(world.command(&["pull", "bge-m3"]));
    let part = world.source("model.safetensors.part");
    wait_until("two thirds are there", || length(&part) == at as u64);
    wait_until("the tokenizer is there", || world.source("tokenizer.json").exists());
    kill(child);
    world.assert_clean();
    assert!(!world.source("model.safetensors").exists());
    world.hub.forget_requests();
    stdout(&world.pull(&[]));
    let requests = world.hub.requests_for("/model.safetensors");
    assert_eq!(requests[0].headers["range"], format!("bytes={at}-"));
    assert_eq!(world.hub.requests_for("/tokenizer.json").len(), 0);
    world.assert_installed();
}

/// How many entries of bge-m3's directory, packed files and stages of packing, have a name that `wanted` accepts.
fn packed(world: &World, wanted: impl Fn(&str) -> bool) -> usize {
    let entries = fs::read_dir(world.packed_directory()).into_iter().flatten().flatten();
    entries.filter(|entry| wanted(&entry.file_name().to_string_lossy())).count()
}

fn is_stage(name: &str) -> bool {
    name.ends_with(".packing")
}

fn is_packed(name: &str) -> bool {
    name.ends_with(concat!("-int8-", env!("CARGO_PKG_VERSION"), ".safetensors"))
}

/// Runs `command` with a limit on the size of files, in blocks of 512 bytes. The shell executes `before` first.
#[cfg(unix)]
fn limited(command: &Command, blocks: u32, before: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before} ulimit -c 0; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null()).output().unwrap()
}

#[test]
#[cfg(unix)]
fn a_pull_killed_while_it_packs_or_compares_goes_on() {
    use std::os::unix::process::ExitStatusExt;
    let world = World::new();
    // The downloaded files are kept, and the revision is a commit. So later runs need no hub.
    let commit = format!("bge-m3@{COMMIT}");
    let pull = |source: &str| {
        let mut command = world.command(&["pull", &commit, "--keep-source"]);
        command.env("HF_ENDPOINT", source);
        command
    };
    // A directory in the place of the model's record keeps the pull from ever installing it. So the packed file alone is there whether the pull
    // is killed while it compares, or has failed to install before this test gets a processor.
    let record = world.home().join("models/bge-m3.json");
    let kill_while_it_compares = |source: &str| {
        fs::create_dir_all(&record).unwrap();
        let mut child = spawn(pull(source));
        wait_until("packing is done", || packed(&world, is_packed) == 1 || child.try_wait().unwrap().is_some());
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(packed(&world, is_packed), 1, "{}", stderr(&output));
        fs::remove_dir(&record).unwrap();
        world.assert_clean();
    };
    kill_while_it_compares(&world.hub.url);
    fs::remove_dir_all(world.packed_directory()).unwrap();

    // The system kills the process at the first byte beyond the limit, which is in the packed file.
    let killed = limited(&pull(&nowhere()), 8, "");
    assert!(killed.status.signal().is_some(), "{killed:?}");
    assert_eq!((packed(&world, is_stage), packed(&world, is_packed)), (1, 0));
    world.assert_clean();

    kill_while_it_compares(&nowhere());
    let output = pull(&nowhere()).output().unwrap();
    stdout(&output);
    assert!(stderr(&output).contains("packed already"), "{}", stderr(&output));
    // Of everything that was begun, only the packed model is left.
    assert_eq!((packed(&world, |_| true), packed(&world, is_packed)), (1, 1));
    stdout(&world.run(&["pull", "bge-m3", "--force"]));
    world.assert_installed();
}

#[test]
fn an_installation_removes_packings_that_were_begun_in_other_formats() {
    let world = World::new();
    let begun = world.packed_directory().join(".0123456789ab-int4-0.0.0.safetensors.packing");
    fs::create_dir_all(&begun).unwrap();
    fs::write(begun.join("data"), [0; 100]).unwrap();
    stdout(&world.pull(&[]));
    assert_eq!(fs::read_dir(world.packed_directory()).unwrap().count(), 1);
    world.assert_installed();
}

#[test]
#[cfg(unix)]
fn a_full_disk_keeps_the_downloaded_part() {
    // A limit on the size of files makes writes fail as a full disk does, at a known byte.
    let world = World::new();
    let output = limited(&world.command(&["pull", "bge-m3", "--from", "hf"]), 200, "trap '' XFSZ;");
    assert_fails(&output, 5, &["model.safetensors.part"]);
    world.assert_clean();
    assert!(length(&world.source("model.safetensors.part")) > 0 && !world.source("model.safetensors").exists());
    stdout(&world.pull(&[]));
    world.assert_installed();
}

#[test]
fn a_packed_model_that_is_not_faithful_is_not_installed() {
    let world = World::new();
    // The model with every second sign flipped is packed to where an interrupted run would have left its own file.
    let other = world.directory.path().join("other");
    fs::create_dir(&other).unwrap();
    for entry in fs::read_dir(small_model()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, other.join(path.file_name().unwrap())).unwrap();
    }
    let mut weights = fs::read(other.join("model.safetensors")).unwrap();
    let data = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    for numbers in weights[data..].chunks_exact_mut(4) {
        numbers[1] ^= 0x80;
    }
    fs::write(other.join("model.safetensors"), weights).unwrap();
    fs::create_dir_all(world.packed_directory()).unwrap();
    let planted = format!("{COMMIT:.12}-int8-{}.safetensors", env!("CARGO_PKG_VERSION"));
    let planted = world.packed_directory().join(planted);
    stdout(&world.run(&["pack", other.to_str().unwrap(), "-o", planted.to_str().unwrap()]));
    for _ in 0..2 {
        let kept = [planted.to_str().unwrap(), "not installed", "models rm bge-m3"];
        assert_fails(&world.pull(&[]), 4, &kept);
        world.assert_clean();
        assert!(planted.is_file() && world.source("model.safetensors").is_file());
    }
    world.hub.forget_requests();
    stdout(&world.pull(&["--force"]));
    assert_eq!(world.hub.requests_for("/model.safetensors").len(), 0);
    world.assert_installed();
}

#[test]
fn another_architecture_is_refused_before_its_weights_are_fetched() {
    let served = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(small_model().join(file), served.path().join(file)).unwrap();
    }
    let config = fs::read_to_string(served.path().join("config.json")).unwrap().replace("xlm-roberta", "bert");
    fs::write(served.path().join("config.json"), config).unwrap();
    let world = World::serving(served.path());
    assert_fails(&world.run(&["pull", "some/model"]), 4, &["`model_type` is \"bert\"", "xlm-roberta"]);
    assert_eq!(world.hub.requests_for("/model.safetensors").len(), 0);
}

#[test]
fn models_are_listed_chosen_and_removed() {
    let world = World::new();
    let table = stdout(&world.run(&["models"]));
    assert!(table.contains("* ") && table.contains("starter"), "{table}");
    assert!(!world.home().exists(), "looking makes nothing");
    assert_fails(&world.run(&["models", "rm", "bge-m3"]), 4, &["not installed"]);
    assert_fails(&world.run(&["models", "use", "bge-m3"]), 4, &["not installed"]);
    assert_fails(&world.run(&["models", "rm", "starter"]), 2, &["cannot be removed"]);
    assert_fails(&world.run(&["models", "rm", "../.."]), 2, &["model's name"]);

    stdout(&world.pull(&[]));
    stdout(&world.run(&["pull", "some/other-model", "--weights", "f16"]));
    let table = stdout(&world.run(&["models"]));
    for part in ["* some/other-model", "  bge-m3", "int8", "f16", "BAAI/bge-m3@0123456789ab (huggingface)", "0.99"] {
        assert!(table.contains(part), "`{part}` is not in\n{table}");
    }
    let used = |args: &[&str]| stderr(&world.run(args));
    assert!(used(&["tokens", "a"]).contains("using some/other-model (f16)"));
    assert_eq!(used(&["tokens", "a", "--model", "some/other-model"]), "");
    assert!(used(&["models", "use", "bge-m3"]).contains("bge-m3 is in use now"));
    for command in [&["tokens", "a"][..], &["info"], &["embed", "a"], &["score", "a", "b"], &["explain", "a", "b"]] {
        assert!(used(command).contains("using bge-m3"), "{command:?}");
    }
    stdout(&world.run(&["models", "use", "starter"]));
    assert!(used(&["tokens", "a"]).contains("starter"));
    stdout(&world.run(&["models", "use", "bge-m3"]));
    assert!(stdout(&world.run(&["info", "--model", "starter"])).contains("starter"));
    // When the model in use is removed, the one that was installed last is in use.
    let output = world.command(&["models", "rm", "bge-m3"]).env("TRIVEC_JSON", "1").output().unwrap();
    stdout(&output);
    assert!(stderr(&output).contains("some/other-model is in use now"), "{}", stderr(&output));
    assert!(!world.packed_directory().exists());
    stdout(&world.run(&["models", "rm", "some/other-model"]));
    world.assert_clean();
}

#[test]
fn damage_in_the_store_is_named_and_a_pull_repairs_it() {
    let world = World::new();
    stdout(&world.pull(&[]));
    let record = world.home().join("models/bge-m3.json");
    let file = fs::read_dir(world.packed_directory()).unwrap().next().unwrap().unwrap().path();
    for damage in [
        &|| fs::write(&record, "{\"format\":1").unwrap() as (),
        &|| fs::write(&record, [0xff, 0xfe]).unwrap(),
        &|| fs::write(&file, "short").unwrap(),
        &|| fs::remove_file(&file).unwrap(),
    ] as [&dyn Fn(); 4]
    {
        damage();
        // No other model is used instead.
        for args in [&["embed", "a"][..], &["embed", "a", "--model", "bge-m3"]] {
            assert_fails(&world.run(args), 4, &["bge-m3", "trivec pull bge-m3 --force"]);
        }
        let list = world.run(&["models"]);
        assert!(stdout(&list).contains("starter") && stderr(&list).contains("bge-m3 is damaged"), "{}", stderr(&list));
        let json = world.models();
        assert_eq!((&json["in_use"], &json["damaged"][0]["name"]), (&Value::Null, &"bge-m3".into()));
        // The starter still works when it is asked for.
        stdout(&world.run(&["embed", "a", "--model", "starter"]));
        stdout(&world.pull(&[]));
        world.assert_installed();
    }
    fs::write(&record, "").unwrap();
    stdout(&world.run(&["models", "rm", "bge-m3"]));
    world.assert_clean();
    fs::write(world.home().join("default"), "\0").unwrap();
    assert_fails(&world.run(&["embed", "a"]), 4, &["default", "trivec models use"]);
    stdout(&world.run(&["models", "use", "starter"]));
    stdout(&world.run(&["embed", "a"]));
}
