//! `trivec pull` from a hub on loopback that misbehaves in every way that a hub is known to.

use trivec_testing::hub;
use trivec_testing::world;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hub::{COMMIT, Fault, Hub, small_model};
use serde_json::Value;
use world::{World, assert_fails, nowhere, stderr, stdout};

#[test]
fn one_command_on_an_empty_home_ends_with_a_model_in_use() {
    let world = World::new();
    let output = world.run(&["pull", "bge-m3"]);
    let text = stdout(&output);
    assert!(
        text.contains("fidelity") && text.contains("ColBERT rows")
            || text.contains("nDCG@10") && text.contains("bge-m3 (BAAI/bge-m3@0123456789ab, int8"),
        "{text}"
    );
    world.assert_installed();
    // Only needed files were requested, and each only once.
    for unneeded in ["README.md", "model.onnx", "a.png"] {
        assert_eq!(world.hub.requests_for(unneeded).len(), 0, "{unneeded}");
    }
    for needed in ["config.json", "model.safetensors", "tokenizer.json", "colbert_linear.safetensors"] {
        assert_eq!(world.hub.requests_for(needed).len(), 1, "{needed}");
    }
    // A command says which model it uses by default, unless --quiet.
    let embed = world.run(&["embed", "a"]);
    assert!(stderr(&embed).contains("using bge-m3 (int8)"), "{}", stderr(&embed));
    assert_eq!(stderr(&world.run(&["embed", "a", "--quiet"])), "");
    // The model is found by its short name and by its repository.
    for name in ["bge-m3", "BAAI/bge-m3"] {
        let by_name = world.run(&["embed", "a", "--model", name]);
        assert_eq!((stdout(&by_name), stderr(&by_name)), (stdout(&embed), String::new()));
    }
    // A path wins over a name.
    let info =
        world.command(&["info", "--json", "--model", "bge-m3"]).current_dir(world.directory.path()).output().unwrap();
    assert!(stdout(&info).contains("int8"));
    fs::create_dir(world.directory.path().join("bge-m3")).unwrap();
    let info = world.command(&["info", "--model", "bge-m3"]).current_dir(world.directory.path()).output().unwrap();
    assert_fails(&info, 4, &["config.json"]);
}

#[test]
fn a_second_pull_has_nothing_to_do_and_force_does_it_again() {
    let world = World::new();
    let first: Value = serde_json::from_str(&stdout(&world.pull(&["--json"]))).unwrap();
    assert_eq!((&first["already_installed"], &first["weights"]), (&false.into(), &"int8".into()));
    assert!(first["verification"]["dense"]["mean"].as_f64().unwrap() > 0.99);
    // If the revision is a commit, no hub is asked.
    let again =
        world.command(&["pull", &format!("bge-m3@{COMMIT}"), "--json"]).env("HF_ENDPOINT", nowhere()).output().unwrap();
    let again: Value = serde_json::from_str(&stdout(&again)).unwrap();
    assert_eq!(again["already_installed"], true);
    let forced: Value = serde_json::from_str(&stdout(&world.pull(&["--json", "--force", "--keep-source"]))).unwrap();
    assert_eq!(forced["already_installed"], false);
    assert!(
        Path::new(forced["path"].as_str().unwrap()).is_file() && !Path::new(first["path"].as_str().unwrap()).exists()
    );
    assert!(world.source("model.safetensors").is_file());
    // Kept files are packed in another format without a download.
    world.hub.forget_requests();
    let other: Value = serde_json::from_str(&stdout(&world.pull(&["--json", "--weights", "f16"]))).unwrap();
    assert_eq!(other["weights"], "f16");
    assert_eq!(world.hub.requests_for("model.safetensors").len(), 0);
    assert_eq!(fs::read_dir(world.packed_directory()).unwrap().count(), 1);
    world.assert_installed();
}

#[test]
fn transient_faults_are_overcome() {
    let world = World::new();
    world
        .hub
        .fault("/revision/", 1, Fault::Status(503, vec![]))
        .fault("/tree/", 1, Fault::Status(429, vec![("Retry-After", "0".into())]))
        .fault("config.json", 2, Fault::Status(500, vec![]))
        .fault("model.safetensors", 1, Fault::Cut(90))
        .fault("model.safetensors", 1, Fault::Cut(50))
        .fault("tokenizer.json", 1, Fault::Cut(10))
        .fault("tokenizer.json", 1, Fault::IgnoreRange)
        .fault("colbert_linear.safetensors", 1, Fault::Trickle)
        .fault("sparse_linear.safetensors", 1, Fault::Cut(0));
    world.hub.pages_of(3);
    let output = world.pull(&[]);
    stdout(&output);
    world.assert_installed();
    // Bytes that had come were not requested again.
    let ranges: Vec<_> = world
        .hub
        .requests_for("model.safetensors")
        .iter()
        .filter(|r| !r.path.contains("colbert") && !r.path.contains("sparse"))
        .map(|r| r.headers.get("range").cloned())
        .collect();
    let total = world.hub.file("model.safetensors").len();
    let (first, second) = (total * 90 / 100, total * 90 / 100 + (total - total * 90 / 100) * 50 / 100);
    // (When a connection closes, bytes on their way may be lost. So an attempt may resume earlier.)
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    let starts: Vec<usize> = ranges[1..]
        .iter()
        .map(|r| r.as_ref().unwrap()["bytes=".len()..].trim_end_matches('-').parse().unwrap())
        .collect();
    assert!(starts[0] <= first && starts[1] <= second && starts[0] > 0 && starts[1] >= starts[0], "{starts:?}");
    let resumed = &world.hub.requests_for("/model.safetensors")[1];
    assert!(resumed.headers["if-range"].starts_with('"'), "{resumed:?}");
}

#[test]
fn retry_after_is_obeyed_up_to_a_bound() {
    let world = World::new();
    world.hub.fault("config.json", 1, Fault::Status(429, vec![("Retry-After", "1".into())]));
    let start = Instant::now();
    stdout(&world.pull(&[]));
    assert!(start.elapsed() >= Duration::from_secs(1));
    let world = World::new();
    world.hub.fault("config.json", 1, Fault::Status(429, vec![("Retry-After", "86400".into())]));
    assert_fails(&world.pull(&[]), 5, &["429", "86400 s", "try later"]);
    world.assert_clean();
    let world = World::new();
    world.hub.fault("config.json", usize::MAX, Fault::Status(503, vec![]));
    assert_fails(&world.pull(&["--retries", "3"]), 5, &["503", "hf-mirror.com", "--from modelscope"]);
    assert_eq!(world.hub.requests_for("/config.json").len(), 4);
    world.assert_clean();
}

#[test]
fn an_html_page_is_not_taken_for_a_file() {
    for path in ["/revision/", "/tree/", "tokenizer.json", "/model.safetensors"] {
        let world = World::new();
        world.hub.fault(path, 1, Fault::Html);
        assert_fails(&world.pull(&[]), 5, &["HTML", "proxy"]);
        world.assert_clean();
        assert!(!world.source("tokenizer.json").exists() || path != "tokenizer.json");
        stdout(&world.pull(&[]));
        world.assert_installed();
    }
}

#[test]
fn a_file_with_a_wrong_hash_is_never_kept() {
    for path in ["model.safetensors", "config.json"] {
        let world = World::new();
        world.hub.fault(&format!("/{path}"), 1, Fault::Flip);
        assert_fails(&world.pull(&[]), 4, &[path, "expected", "not kept"]);
        world.assert_clean();
        assert!(!world.source(path).exists() && !world.source(&format!("{path}.part")).exists());
        stdout(&world.pull(&[]));
        world.assert_installed();
    }
    // A part that was damaged on disk is noticed, and the file is fetched from the start in the same run.
    let world = World::new();
    world.hub.fault("/model.safetensors", 1, Fault::Cut(90)).fault("/model.safetensors", 1, Fault::Status(404, vec![]));
    assert_fails(&world.pull(&[]), 4, &["404"]);
    let part = world.source("model.safetensors.part");
    let mut bytes = fs::read(&part).unwrap();
    bytes[100] ^= 1;
    fs::write(&part, bytes).unwrap();
    let output = world.pull(&[]);
    stdout(&output);
    assert!(stderr(&output).contains("again from the start"), "{}", stderr(&output));
    world.assert_installed();
    // The hub lists another hash than the file has, and then a text that is no hash.
    let world = World::new();
    world.hub.lie_about("model.safetensors", &"ab".repeat(32));
    assert_fails(&world.pull(&[]), 4, &["SHA-256", "abab"]);
    world.hub.lie_about("model.safetensors", "nonsense");
    assert_fails(&world.pull(&[]), 5, &["no hash", "nonsense"]);
    world.assert_clean();
}

#[test]
fn ranges_that_do_not_fit_start_again() {
    for (fault, expected) in [
        (Fault::Status(416, vec![]), "416"),
        (Fault::OtherRange, "expected `bytes"),
        (Fault::Changed, "model.safetensors"),
        (Fault::IgnoreRange, "model.safetensors"),
    ] {
        let world = World::new();
        world.hub.fault("/model.safetensors", 1, Fault::Cut(60)).fault("/model.safetensors", 1, fault.clone());
        let output = world.pull(&[]);
        stdout(&output);
        assert!(stderr(&output).contains(expected), "{fault:?}: {}", stderr(&output));
        world.assert_installed();
    }
    // A part that is longer than the file is discarded.
    let world = World::new();
    world.hub.fault("/model.safetensors", 1, Fault::Cut(60)).fault("/model.safetensors", 1, Fault::Status(404, vec![]));
    assert_fails(&world.pull(&[]), 4, &["404"]);
    fs::write(world.source("model.safetensors.part"), vec![0; world.hub.file("model.safetensors").len() + 1]).unwrap();
    stdout(&world.pull(&[]));
    world.assert_installed();
}

#[test]
fn refusals_say_what_to_do() {
    for (path, code, exit, parts) in [
        ("/revision/", 401, 5, ["HF_TOKEN", "gated"]),
        ("/tree/", 403, 5, ["HF_TOKEN", "gated"]),
        ("BAAI", 404, 4, ["404", "spelt right"]),
        ("/config.json", 404, 4, ["404", "spelt right"]),
        ("/revision/", 418, 5, ["418", "not expected"]),
    ] {
        let world = World::new();
        world.hub.fault(path, usize::MAX, Fault::Status(code, vec![]));
        assert_fails(&world.pull(&[]), exit, &parts);
        world.assert_clean();
    }
    let world = World::new();
    world.hub.fault("/revision/", usize::MAX, Fault::Status(403, vec![]));
    let output = world.command(&["pull", "bge-m3"]).env("HF_TOKEN", "hf_secret").output().unwrap();
    assert_fails(&output, 5, &["the token (HF_TOKEN) is not allowed"]);
    assert!(!stderr(&output).contains("hf_secret"));
    for (args, parts) in [
        (vec!["pull", "nonsense"], ["no known name", "ORG/REPO"]),
        (vec!["pull", "../x"], ["model's name", "ORG/REPO"]),
        (vec!["pull", "multilingual-e5-small"], ["BERT", "multilingual-e5-base"]),
        (vec!["pull", "bge-m3", "--weights", "int3"], ["int8", "int4"]),
        (vec!["pull", "bge-m3", "--stall-timeout", "0"], ["0.001", "3,600"]),
        (vec!["pull"], ["NAME", "Usage"]),
    ] {
        assert_fails(&world.run(&args), 2, &parts);
    }
    assert_fails(&world.run(&["embed", "a", "--model", "arctic-embed-l-v2"]), 4, &["trivec pull arctic-embed-l-v2"]);
    let list = stdout(&world.run(&["pull", "--list"]));
    for part in ["bge-m3", "MIT", "arctic-embed-l-v2", "Apache-2.0", "2.3 GB", "multilingual-e5-small cannot"] {
        assert!(list.contains(part), "{list}");
    }
    let list: Value = serde_json::from_str(&stdout(&world.run(&["pull", "--list", "--json"]))).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 4);
}

#[test]
fn a_hub_that_hangs_is_given_up() {
    for path in ["/revision/", "/model.safetensors"] {
        let world = World::new();
        world.hub.fault(path, usize::MAX, Fault::Hang);
        assert_fails(&world.pull(&["--stall-timeout", "1", "--retries", "1"]), 5, &["hf-mirror.com"]);
        world.assert_clean();
    }
    // The hub hangs in the middle of a file: the next attempt goes on from there. Five seconds are enough for the other answers on a busy
    // machine.
    let world = World::new();
    let half = world.hub.file("model.safetensors").len() / 2;
    world.hub.fault("/model.safetensors", 1, Fault::Stall(half));
    stdout(&world.pull(&["--stall-timeout", "5"]));
    let range = world.hub.requests_for("/model.safetensors")[1].headers["range"].clone();
    assert_eq!(range, format!("bytes={half}-"));
    world.assert_installed();
}

#[test]
fn an_unreachable_hub_gives_the_hint_at_mirrors() {
    let world = World::new();
    let output =
        world.command(&["pull", "bge-m3"]).env("HF_ENDPOINT", nowhere()).env("TRIVEC_RETRIES", "1").output().unwrap();
    assert_fails(
        &output,
        5,
        &[&nowhere()["http://".len()..], "trying modelscope", "HF_ENDPOINT=https://hf-mirror.com", "--from modelscope"],
    );
    world.assert_clean();
    let output = world.command(&["pull", "bge-m3"]).env("HF_ENDPOINT", "nonsense").output().unwrap();
    assert_fails(&output, 2, &["no address of a hub"]);
}

#[test]
fn model_scope_serves_when_asked_and_when_hugging_face_cannot_be_reached() {
    for from in ["modelscope", "auto"] {
        let world = World::new();
        let output = world
            .command(&["pull", "bge-m3", "--json", "--from", from])
            .env("HF_ENDPOINT", nowhere())
            .env("MODELSCOPE_ENDPOINT", &world.hub.url)
            .output()
            .unwrap();
        let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!((&json["hub"], json["revision"].as_str().unwrap().len()), (&"modelscope".into(), 40));
        assert!(world.hub.requests().iter().all(|request| request.path.starts_with("/api/v1/models/BAAI/bge-m3/repo")));
        world.assert_installed();
    }
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let world = World::new();
    let cdn = Hub::serve(&small_model());
    let to = |hub: &Hub, path: &str| vec![("Location", format!("{}/any/resolve/main/{path}", hub.url))];
    world.hub.fault("/model.safetensors", 1, Fault::Status(302, to(&cdn, "model.safetensors"))).fault(
        "/tokenizer.json",
        1,
        Fault::Status(307, vec![("Location", "/moved/resolve/main/tokenizer.json".into())]),
    );
    let output = world.command(&["pull", "bge-m3"]).env("HF_TOKEN", "hf_secret").output().unwrap();
    stdout(&output);
    let token = |request: &hub::Request| request.headers.get("authorization").cloned();
    assert!(world.hub.requests().iter().all(|request| token(request).as_deref() == Some("Bearer hf_secret")));
    assert_eq!(cdn.requests().len(), 1);
    assert!(cdn.requests().iter().all(|request| token(request).is_none()));
    world.assert_installed();

    // The token comes from the file in which Hugging Face's own tools keep it.
    let world = World::new();
    let hf = world.directory.path().join("hf");
    fs::create_dir(&hf).unwrap();
    fs::write(hf.join("token"), "hf_file\n").unwrap();
    stdout(&world.command(&["pull", "bge-m3"]).env("HF_HOME", &hf).output().unwrap());
    assert_eq!(token(&world.hub.requests()[0]).as_deref(), Some("Bearer hf_file"));

    for location in ["file:///etc/passwd", "mailto:a@b"] {
        let world = World::new();
        world.hub.fault("/config.json", 1, Fault::Status(302, vec![("Location", location.into())]));
        assert_fails(&world.pull(&[]), 5, &["redirect"]);
    }
    let world = World::new();
    let round = world.hub.url.clone() + "/x/resolve/main/config.json";
    world.hub.fault("config.json", usize::MAX, Fault::Status(302, vec![("Location", round)]));
    assert_fails(&world.pull(&[]), 5, &["more than 10 redirects"]);
}

#[test]
fn hostile_listings_do_no_harm() {
    let world = World::new();
    for path in ["../../outside", "/etc/outside", "..\\outside", "a/../../../outside", "C:outside"] {
        world.hub.list_also(serde_json::json!({ "type": "file", "path": path, "size": 1, "oid": "0".repeat(40) }));
    }
    stdout(&world.pull(&[]));
    world.assert_installed();
    assert!(!world.directory.path().join("outside").exists() && !world.home().join("outside").exists());

    // Sizes that no disk holds: nothing but config.json is fetched.
    let served = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(small_model().join(file), served.path().join(file)).unwrap();
    }
    for size in [1u64 << 60, u64::MAX] {
        let world = World::serving(served.path());
        let lfs = serde_json::json!({ "oid": "00".repeat(32), "size": size });
        world.hub.list_also(
            serde_json::json!({ "type": "file", "path": "model.safetensors", "size": size, "oid": "", "lfs": lfs }),
        );
        assert_fails(&world.pull(&[]), 5, &["the disk has", "GB are needed", "TRIVEC_HOME"]);
        let contents = world.hub.requests().into_iter().filter(|request| request.path.contains("/resolve/"));
        assert!(contents.map(|request| request.path).all(|path| path.ends_with("/config.json")));
        world.assert_clean();
    }
    // A module whose path leaves the directory.
    fs::copy(small_model().join("model.safetensors"), served.path().join("model.safetensors")).unwrap();
    fs::write(served.path().join("modules.json"), r#"[{"path":"../../x","type":"m.Pooling"}]"#).unwrap();
    let world = World::serving(served.path());
    assert_fails(&world.pull(&[]), 4, &["../../x", "is not a folder inside"]);
    fs::write(served.path().join("modules.json"), "{").unwrap();
    assert_fails(&World::serving(served.path()).pull(&[]), 4, &["modules.json"]);
    // The only weights are in a format that this program does not load.
    fs::remove_file(served.path().join("model.safetensors")).unwrap();
    assert_fails(&World::serving(served.path()).pull(&[]), 4, &["pytorch_model.bin", "onnx/model.onnx"]);
}

#[test]
fn what_hugging_faces_cache_has_is_not_fetched() {
    let world = World::new();
    let cache = world.directory.path().join("hf/hub");
    let root = cache.join("models--BAAI--bge-m3");
    let snapshot = root.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(root.join("refs")).unwrap();
    fs::write(root.join("refs/main"), COMMIT).unwrap();
    for entry in fs::read_dir(small_model()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, snapshot.join(path.file_name().unwrap())).unwrap();
    }
    let pull = |offline: &str| {
        let mut command = world.command(&["pull", "bge-m3", "--force"]);
        command.env("HF_HUB_CACHE", &cache).env("HF_HUB_OFFLINE", offline).output().unwrap()
    };
    let output = pull("0");
    stdout(&output);
    assert!(stderr(&output).contains("from the cache of Hugging Face"), "{}", stderr(&output));
    assert!(world.hub.requests().iter().all(|request| !request.path.contains("/resolve/")));
    world.assert_installed();
    assert!(snapshot.join("model.safetensors").is_file(), "the cache is not ours to empty");
    // A damaged file of the cache is fetched from the hub.
    let weights = snapshot.join("model.safetensors");
    let good = fs::read(&weights).unwrap();
    let mut bad = good.clone();
    bad[5000] ^= 1;
    fs::write(&weights, bad).unwrap();
    let output = pull("0");
    stdout(&output);
    assert!(stderr(&output).contains("not used"), "{}", stderr(&output));
    assert_eq!(world.hub.requests_for("/model.safetensors").len(), 1);
    // Offline, no hub is asked.
    fs::write(&weights, good).unwrap();
    world.hub.forget_requests();
    stdout(&pull("1"));
    assert_eq!(world.hub.requests().len(), 0);
    world.assert_installed();
    fs::remove_dir_all(&root).unwrap();
    assert_fails(&pull("1"), 5, &["HF_HUB_OFFLINE", "not in the cache"]);
    world.assert_installed();
}

#[test]
fn the_pinned_revision_and_hashes_are_required() {
    let world = World::new();
    let output = world.command(&["pull", "bge-m3"]).env("TRIVEC_PIN", "always").output().unwrap();
    assert_fails(&output, 4, &["tokenizer.json", "21106b6d", "--pin never"]);
    assert!(world.hub.requests()[0].path.contains("5617a9f61b028005a4858fdac845db406aefb181"));
    world.assert_clean();
    // For a revision that the user names, the pinned hashes do not count.
    stdout(&world.command(&["pull", "bge-m3@main"]).env("TRIVEC_PIN", "always").output().unwrap());
    world.assert_installed();
}
