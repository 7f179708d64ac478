//! `trivec pull` from hubs that differ from Hugging Face itself: mirrors with a part of its API, with other redirects, or without hashes.

use trivec_testing::hub;
use trivec_testing::world;

use hub::{Api, COMMIT, Fault, Hub, model_of_pytorch, small_model};
use serde_json::Value;
use world::{World, assert_fails, nowhere, stderr, stdout};

/// A hub with BAAI's layout, an empty home, and one command.
#[test]
fn baai_s_layout_ends_as_an_int8_model_in_use() {
    let world = World::serving(&model_of_pytorch());
    let text = stdout(&world.run(&["pull", "bge-m3"]));
    for part in ["fidelity to the source", "dense", "lexical", "ColBERT rows", "nDCG@10", "int8", "is in use"] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    for file in ["pytorch_model.bin", "colbert_linear.pt", "sparse_linear.pt", "sentencepiece.bpe.model", "config.json"]
    {
        assert_eq!(world.hub.requests_for(file).len(), 1, "{file}");
    }
    world.assert_installed();
}

#[test]
fn mirrors_with_a_part_of_the_api_are_asked_for_the_rest() {
    for api in [Api::Revision, Api::Names, Api::Files] {
        for gets_only in [false, true] {
            let world = World::new();
            world.hub.knows(api);
            if gets_only {
                world.hub.know_get_alone();
            }
            let json: Value = serde_json::from_str(&stdout(&world.pull(&["--json"]))).unwrap();
            assert_eq!(json["revision"], COMMIT, "{api:?}");
            // There is not even a HEAD for files that no model needs.
            for unneeded in ["README.md", "model.onnx", "a.png"] {
                assert_eq!(world.hub.requests_for(unneeded).len(), 0, "{api:?}: {unneeded}");
            }
            world.assert_installed();
        }
        // The hashes of such a hub count as those of any other.
        let world = World::new();
        world.hub.knows(api);
        // Before the GET of the file, HEADs for it and, without a listing, for its index use up faults. `Trickle` has no effect on a HEAD.
        let heads = match api {
            Api::All | Api::Revision => 0,
            Api::Names => 1,
            Api::Files => 2,
        };
        if heads > 0 {
            world.hub.fault("/model.safetensors", heads, Fault::Trickle);
        }
        world.hub.fault("/model.safetensors", 1, Fault::Flip);
        assert_fails(&world.pull(&[]), 4, &["model.safetensors", "SHA-256", "not kept"]);
        world.assert_clean();
    }
    // A model that the hub does not have is not found, and an HTML page is no answer, as on any hub.
    let world = World::new();
    world.hub.knows(Api::Files).fault("/resolve/", 1, Fault::Status(404, vec![]));
    assert_fails(&world.pull(&[]), 4, &["404", "spelt right"]);
    world.hub.fault("/resolve/", 1, Fault::Html);
    assert_fails(&world.pull(&[]), 5, &["HTML"]);
    world.assert_clean();
}

#[test]
fn files_without_hashes_are_refused_when_pinned_and_else_checked_by_length() {
    let world = World::new();
    world.hub.knows(Api::Names).tell_no_hashes();
    let pinned = world.command(&["pull", "some/model"]).env("TRIVEC_PIN", "always").output().unwrap();
    assert_fails(&pinned, 4, &["no hash is told of", "model.safetensors", "--pin never"]);
    assert_eq!(
        world.hub.requests_for("/model.safetensors").iter().filter(|request| request.method == "GET").count(),
        0
    );
    let world = World::new();
    world.hub.knows(Api::Names).tell_no_hashes();
    // Without a hash and an ETag nothing tells which version a part belongs to, so no download resumes.
    world.hub.fault("/model.safetensors", 1, Fault::Trickle).fault("/model.safetensors", 1, Fault::Cut(70));
    let output = world.pull(&[]);
    stdout(&output);
    assert!(stderr(&output).contains("only the length is checked"), "{}", stderr(&output));
    let requests = world.hub.requests_for("/model.safetensors");
    assert!(requests.iter().all(|request| !request.headers.contains_key("range")), "{requests:?}");
    world.assert_installed();
}

#[test]
fn redirects_may_be_relative_and_lead_elsewhere() {
    let cdn = Hub::serve(&small_model());
    for api in [Api::All, Api::Files] {
        let world = World::new();
        let redirect = |to: String| Fault::Status(307, vec![("Location", to)]);
        world
            .hub
            .knows(api)
            .fault(
                "main/model.safetensors",
                9,
                redirect("../../../cdn/x/resolve/at/model.safetensors?signature=1".into()),
            )
            .fault(
                &format!("{COMMIT}/model.safetensors"),
                9,
                redirect("../../../cdn/x/resolve/at/model.safetensors".into()),
            )
            .fault("/tokenizer.json", 9, redirect(format!("{}/x/y/resolve/z/tokenizer.json", cdn.url)));
        let output = world.command(&["pull", "bge-m3"]).env("HF_TOKEN", "hf_secret").output().unwrap();
        stdout(&output);
        assert!(
            cdn.requests_for("/tokenizer.json").iter().all(|request| !request.headers.contains_key("authorization"))
        );
        world.assert_installed();
    }
    assert!(cdn.requests_for("/tokenizer.json").len() >= 2);
}

#[test]
fn a_hub_on_loopback_is_reached_without_the_proxy() {
    let world = World::new();
    let mut command = world.command(&["pull", "bge-m3"]);
    stdout(
        &command
            .env("HTTP_PROXY", nowhere())
            .env("http_proxy", nowhere())
            .env("ALL_PROXY", nowhere())
            .output()
            .unwrap(),
    );
    world.assert_installed();
}
