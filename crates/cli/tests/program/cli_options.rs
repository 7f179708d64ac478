//! Values that make no sense, variables that the user did not set, options without effect: each is refused or ignored, with its name.

use trivec_testing::http;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use http::{Server, trivec};

/// The exit code and the standard error of a command. A service that begins to listen is killed, and has no exit code.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        said.push_str(&line);
        said.push('\n');
        if line.contains("listening on") {
            child.kill().unwrap();
        }
    }
    (child.wait().unwrap().code(), said)
}

fn cli(args: &[&str]) -> (Option<i32>, String) {
    run(trivec().args(args))
}

/// The names of the options of `trivec serve` that take a value, read from its help.
fn options() -> Vec<String> {
    let out = trivec().args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(out.stdout).unwrap();
    let option = |line: &str| {
        let line = line.trim_start();
        let line = line
            .split_once(", ")
            .filter(|_| line.starts_with('-') && !line.starts_with("--"))
            .map_or(line, |(_, long)| long);
        let (name, rest) = line.strip_prefix("--")?.split_once(' ')?;
        rest.starts_with('<').then(|| name.to_owned())
    };
    let options: Vec<String> = help.lines().filter_map(option).collect();
    assert!(
        options.len() > 20 && ["port", "cors-origin", "threads"].iter().all(|o| options.iter().any(|own| own == o))
    );
    options
}

/// The variable of an option of `trivec serve`.
fn variable(option: &str) -> String {
    match option {
        // TRIVEC_WEIGHTS belongs to `score`.
        "weights" => "TRIVEC_MODEL_WEIGHTS".to_owned(),
        _ => format!("TRIVEC_{}", option.replace('-', "_").to_uppercase()),
    }
}

/// Values that every option of `trivec serve` is tried with.
const HOSTILE: [&str; 18] = [
    "",
    " ",
    "0",
    "-1",
    "1.5",
    "NaN",
    "-inf",
    "1e400",
    "65536",
    "18446744073709551615",
    "99999999999999999999",
    "a\nb",
    "é\u{202e}",
    "*",
    ",",
    "/",
    "[::1]:8737",
    "999999999999GiB",
];

/// Whatever a value is, `serve` ends with 0, 2 or 5 and does not panic. With 2 it names the option, the variable or the file.
#[test]
fn no_value_of_any_option_panics() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trivec.toml");
    let config = file.to_str().unwrap();
    let file_name = file.display().to_string();
    for option in options().iter().filter(|option| *option != "config") {
        let (key, variable) = (option.replace('-', "_"), variable(option));
        let is_of_file = option != "color";
        for value in HOSTILE {
            let shown = format!("--{option} {value:?}");
            let by_line = cli(&["serve", "--print-config", &format!("--{option}={value}")]);
            let by_variable = run(trivec().args(["serve", "--print-config"]).env(&variable, value));
            let mut ways = vec![(by_line, format!("--{option}")), (by_variable, variable.clone())];
            if is_of_file {
                let number = value.parse::<u64>().is_ok() || value.parse::<f64>().is_ok_and(f64::is_finite);
                let written =
                    if number { value.to_owned() } else { format!("{value:?}").replace("\\u{202e}", "\\u202e") };
                fs::write(&file, format!("{key} = {written}\n")).unwrap();
                ways.push((cli(&["serve", "--print-config", "--config", config]), file_name.clone()));
            }
            for ((code, said), name) in ways {
                assert!(matches!(code, Some(0 | 2 | 5)) && !said.contains("panicked"), "{shown}: {code:?} {said}");
                assert!(code != Some(2) || said.contains(&name), "{shown} does not name {name}: {said}");
            }
        }
    }
}

#[test]
fn values_out_of_range_are_refused_and_the_largest_work() {
    for (option, values) in [
        ("port", &["65536", "-1", "http"][..]),
        ("host", &["localhost", "", "127.1", "[::1]", "127.0.0.1:80"]),
        ("max-body", &["0", "1073741825", "18446744073709551615", "1k"]),
        ("max-texts", &["0", "1000001", "18446744073709551615"]),
        ("max-queue", &["0", "18446744073709551615"]),
        ("max-connections", &["0", "1000001", "18446744073709551615", "2305843009213693952"]),
        ("head-timeout", &["0", "-1", "NaN", "inf", "1e300", "18446744073709551615", "86401"]),
        ("idle-timeout", &["0", "NaN", "1e300"]),
        ("drain-timeout", &["0", "-0.5", "inf"]),
        ("threads", &["0", "99999", "18446744073709551615"]),
        ("cache-size", &["0", "", "16TiB", "-1", "NaN", "1e9"]),
        ("api-key", &["", " ", "a b", "a\tb", "a\nb", "schlüssel"]),
        ("log-level", &["", "loud"]),
        ("log-format", &["xml"]),
        ("isa", &["", "mmx"]),
        ("unix-socket", &[""]),
        (
            "cors-origin",
            &[
                "",
                "null",
                "example.org",
                "https://",
                "https:///",
                "https://a.example/",
                "https://a.example/x",
                "https://a.example?x",
                "https://a.example,https://b.example",
                "https://a.example https://b.example",
                "https://u@a.example",
                "https://u:p@a.example",
                "https://a.example:x",
                "https://a.example:99999",
                "https://*.example",
                "https://é.example",
                "https://[::1",
                "://a.example",
                "ht tp://a.example",
                "a\nb",
            ],
        ),
        (
            "allowed-host",
            &[
                "",
                "https://a.example",
                "a.example:80",
                "a/b",
                "a,b",
                "a b",
                "*.example",
                "[::1]:80",
                "u@a",
                "é.example",
                ".",
                "a\nb",
            ],
        ),
    ] {
        for value in values {
            let (code, said) = cli(&["serve", "--port=0", "--cache=none", &format!("--{option}={value}")]);
            assert!(code == Some(2) && said.contains(&format!("--{option}")), "--{option} {value:?}: {code:?} {said}");
            assert!(option != "api-key" || !said.contains("schl") && !said.contains("a b"), "{said}");
        }
    }
    let (code, said) = cli(&["serve", "--port", "0", "--cors-origin", "*", "--cors-origin", "https://a.example"]);
    assert!(code == Some(2) && said.contains("--cors-origin") && said.contains("alone"), "{said}");
    let ends = [
        "--max-body=1073741824",
        "--max-texts=1000000",
        "--max-queue=1099511627776",
        "--max-connections=1000000",
        "--head-timeout=86400",
        "--idle-timeout=86400",
        "--drain-timeout=86400",
    ];
    for more in
        [&["--cors-origin", "*"][..], &["--cors-origin", "HTTP://A.example:80", "--cors-origin", "app://obsidian.md"]]
    {
        let server = Server::start(&[&ends[..], more].concat());
        assert_eq!(server.post("/embed", &serde_json::json!({"inputs": "a"})).status, 200);
    }
}

#[test]
fn numbers_of_the_other_commands_are_checked_too() {
    let most = "18446744073709551615";
    for args in [
        &["embed", "a", "--max-length", most][..],
        &["embed", "a", "--dimensions", most],
        &["embed", "a", "--batch-size", "0"],
        &["embed", "a", "--batch-size", most],
        &["embed", "a", "--threads", most],
        &["embed", "a", "--cache", "none", "--cache-size", most],
        &["embed", "a", "--modes", ""],
        &["score", "a", "b", "--weights", "inf,1,1"],
        &["score", "a", "b", "--weights", ""],
        &["score", "a", "b", "--thresholds", "NaN,0.6,0.3"],
        &["score", "a", "b", "--thresholds", ",,"],
        &["rerank", "q", "d", "--top", "0"],
        &["rerank", "q", "d", "--top", most],
        &["tokens", "a", "--max-length", "0"],
        &["pack", "-o", "never", "--mixed", "--budget-mb", "NaN"],
        &["pack", "-o", "never", "--mixed", "--budget-mb", "-1"],
        &["pack", "-o", "never", "--mixed", "--budget-mb", "inf"],
        &["pack", "-o", "never", "--mixed"],
        &["pack", "-o", ""],
        &["bench", "--seconds", "NaN"],
        &["bench", "--seconds", "1e300"],
        &["bench", "--weights", "int8", "--shapes", "0x8"],
        &["bench", "--weights", "int8", "--shapes", "18446744073709551615x18446744073709551615"],
        &["bench", "--weights", "int8", "--shapes", "8x"],
        &["bench", "--weights", "int8", "--shapes", ""],
        &["pull", "x/y", "--parallel", "0"],
        &["pull", "x/y", "--retries", most],
        &["pull", "x/y", "--retry-delay", "NaN"],
        &["pull", "x/y", "--retry-delay", most],
        &["pull", "x/y", "--stall-timeout", "0"],
    ] {
        let (code, said) = cli(args);
        assert!(code == Some(2) && !said.contains("panicked"), "{args:?}: {code:?} {said}");
    }
}

#[test]
fn variables_that_kubernetes_sets_are_ignored() {
    let address = "tcp://10.0.0.1:8737";
    // Kubernetes sets these in every pod if there is a service named `trivec`.
    let of_a_service = [
        ("TRIVEC_SERVICE_HOST", "10.0.0.1"),
        ("TRIVEC_SERVICE_PORT", "8737"),
        ("TRIVEC_SERVICE_PORT_HTTP", "8737"),
        ("TRIVEC_PORT", address),
        ("TRIVEC_PORT_8737_TCP", address),
        ("TRIVEC_PORT_8737_TCP_PROTO", "tcp"),
        ("TRIVEC_PORT_8737_TCP_PORT", "8737"),
        ("TRIVEC_PORT_8737_TCP_ADDR", "10.0.0.1"),
    ];
    let mut command = trivec();
    command.args(["serve", "--port", "0"]).envs(of_a_service);
    let server = Server::run(command);
    let port = server.port.to_string();
    let (code, said) = run(trivec().args(["serve", "--healthcheck", "--port", &port]).envs(of_a_service));
    assert_eq!((code, said.as_str()), (Some(0), ""), "the command line has the port: nothing is to be said");
    // Without --port the default port is asked, and the variable is named. Something may or may not answer there.
    let (code, said) = run(trivec().args(["serve", "--healthcheck"]).envs(of_a_service));
    assert!(
        code != Some(2) && said.contains(&format!("TRIVEC_PORT={address}")) && said.contains("Kubernetes"),
        "{said}"
    );
    let (code, said) = run(trivec().args(["serve", "--print-config", "-q"]).envs(of_a_service));
    assert_eq!((code, said.as_str()), (Some(0), ""));
    for value in ["udp://10.0.0.1:53", "sctp://[fd00::1]:8737", "TCP://10.0.0.1:1"] {
        let (code, said) = run(trivec().args(["serve", "--print-config"]).env("TRIVEC_PORT", value));
        assert!(code == Some(0) && said.contains("TRIVEC_PORT"), "{value}: {said}");
    }
    // This holds for other options, and for other commands.
    let all = options().into_iter().map(|option| variable(&option));
    let all = all.filter(|name| !["TRIVEC_CORS_ORIGIN", "TRIVEC_OTLP_ENDPOINT"].contains(&name.as_str()));
    let all: Vec<(String, &str)> = all.map(|name| (name, address)).collect();
    let (code, said) =
        run(trivec().args(["serve", "--print-config"]).envs(all.iter().map(|(name, value)| (name, value))));
    assert!(code == Some(0) && all.iter().all(|(name, _)| said.contains(name.as_str())), "{said}");
    let (code, said) = run(trivec().args(["embed", "a"]).env("TRIVEC_MODEL", address).env("TRIVEC_PORT", address));
    assert!(code == Some(0) && said.contains("TRIVEC_MODEL") && !said.contains("TRIVEC_PORT"), "{said}");
}

#[test]
fn errors_name_the_variable_or_the_file_that_gave_the_value() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trivec.toml");
    let config = file.to_str().unwrap();
    for (args, variable, value) in [
        (&["serve"][..], "TRIVEC_PORT", "http"),
        (&["serve"], "TRIVEC_MAX_TEXTS", "0"),
        (&["serve"], "TRIVEC_CORS_ORIGIN", "https://a.example/"),
        (&["serve"], "TRIVEC_ALLOWED_HOST", "a:1"),
        (&["serve"], "TRIVEC_API_KEY", "a b"),
        (&["serve"], "TRIVEC_THREADS", "0"),
        (&["embed", "a"], "TRIVEC_MAX_LENGTH", "1"),
        (&["embed", "a"], "TRIVEC_MODES", "dance"),
        (&["embed", "a"], "TRIVEC_LOSSY", "perhaps"),
        (&["score", "a", "b"], "TRIVEC_WEIGHTS", "1,1"),
        (&["info"], "TRIVEC_ISA", "mmx"),
    ] {
        let (code, said) = run(trivec().args(args).env(variable, value));
        assert!(code == Some(2) && said.contains(variable), "{variable}={value}: {code:?} {said}");
    }
    // An option on the command line takes precedence over its variable, so the error names the option.
    let (code, said) = run(trivec().args(["serve", "--port", "http"]).env("TRIVEC_PORT", "also-wrong"));
    assert!(code == Some(2) && said.contains("--port") && !said.contains("TRIVEC_PORT ("), "{said}");
    for (line, key) in [
        ("max_texts = 0", "max_texts"),
        ("cors_origin = \"x\"", "cors_origin"),
        ("threads = 0", "threads"),
        ("api_key = \"a b\"", "api_key"),
    ] {
        fs::write(&file, line).unwrap();
        let (code, said) = cli(&["serve", "--config", config]);
        assert!(code == Some(2) && said.contains(&format!("trivec.toml: {key}")), "{line}: {said}");
    }
}

#[test]
fn no_message_shows_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let (config, keys) = (directory.path().join("c.toml"), directory.path().join("keys"));
    for line in [
        "api_key = 5 # sk-secret",
        "api_key = \"sk-secret",
        "api_key = [\"sk-secret\", 1]",
        "api_kay = \"sk-secret\"",
        "api_key = \"sk-secret é\"",
    ] {
        fs::write(&config, line).unwrap();
        let (code, said) = cli(&["serve", "--config", config.to_str().unwrap()]);
        assert!(code == Some(2) && !said.contains("secret") && said.contains("c.toml"), "{line}: {said}");
    }
    fs::write(&keys, "fine\nsk-secret with spaces\n").unwrap();
    let (code, said) = cli(&["serve", "--api-key-file", keys.to_str().unwrap()]);
    assert!(code == Some(2) && said.contains("line 2") && !said.contains("secret"), "{said}");
    fs::write(&keys, b"sk-secret \xff\n").unwrap();
    let (code, said) = cli(&["serve", "--api-key-file", keys.to_str().unwrap()]);
    assert!(code == Some(3) && said.contains("line 1") && !said.contains("secret"), "{said}");
    for key in ["sk-secret x", "sk-secret\n", "sk-secreté"] {
        let (code, said) = run(trivec().arg("serve").env("TRIVEC_API_KEY", key));
        assert!(code == Some(2) && said.contains("TRIVEC_API_KEY") && !said.contains("secret"), "{said}");
        let (code, said) = cli(&["serve", "--api-key", key]);
        assert!(code == Some(2) && !said.contains("secret"), "{said}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let key = std::ffi::OsStr::from_bytes(b"sk-secret\xff");
        let (code, said) = run(trivec().arg("serve").env("TRIVEC_API_KEY", key));
        assert!(code == Some(2) && !said.contains("secret"), "{said}");
    }
    let out = trivec().args(["serve", "--help"]).env("TRIVEC_API_KEY", "sk-secret").output().unwrap();
    assert!(!String::from_utf8_lossy(&out.stdout).contains("secret"));
    // In a file, a single string is accepted as a key.
    fs::write(&config, "api_key = \"sk-secret\"").unwrap();
    let server = Server::start(&["--config", config.to_str().unwrap()]);
    let ask = |key: &str| server.request("GET", "/v1/status", &[("authorization", key)], b"").status;
    assert_eq!((ask("Bearer sk-secret"), ask("Bearer other")), (200, 401));
}

/// Names that cannot be a file's, or that end in another format than the file has.
#[test]
fn names_of_files_are_checked_before_anything_is_computed() {
    for (args, said) in [
        (&["verify", "starter", "starter", "--plot", "-"][..], "--plot: a histogram is a file"),
        (
            &["verify", "starter", "starter", "--plot", "p.png"],
            "--plot: found `p.png`, expected a name that ends in .svg",
        ),
        (&["verify", "starter", "starter", "--plot", "p.svg.gz"], "--plot: found `p.svg.gz`"),
        (&["pack", "starter", "-o", "x.safetensors", "--calibration="], "--calibration: found no name"),
        (&["pack", "starter", "-o", "-"], "--output: a packed model is a file"),
    ] {
        let (code, found) = cli(args);
        assert!(code == Some(2) && found.contains(said), "{args:?}: {code:?} {found}");
    }
}

#[test]
fn options_without_effect_are_refused_only_on_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trivec.toml");
    let config = file.to_str().unwrap();
    for (args, option) in [
        (&["serve", "--unix-socket", "s", "--port", "1"][..], "--port"),
        (&["serve", "--unix-socket", "s", "--host", "::1"], "--host"),
        (&["serve", "--unix-socket", "s", "--tls-cert", "c", "--tls-key", "k"], "--tls-cert"),
        (&["serve", "--unix-socket", "s", "--allowed-host", "a"], "--allowed-host"),
        (&["serve", "--tls-key", "k"], "--tls-key"),
        (&["serve", "--tls-cert", "c"], "--tls-cert"),
        (&["serve", "--cache-size", "1GiB"], "--cache-size"),
        (&["serve", "--log-texts", "--log-level", "warn"], "--log-texts"),
        (&["serve", "--log-texts", "-q"], "--log-texts"),
        (&["serve", "--healthcheck", "--print-config"], "--print-config"),
        (&["serve", "--otlp-service-name", "x"], "--otlp-service-name"),
        (&["embed", "a", "--cache-size", "1GiB"], "--cache-size"),
        (&["embed", "a", "--lossy"], "--lossy"),
        (&["embed", "a", "--input-format", "jsonl"], "--input-format"),
        (&["embed", "a", "--modes", "sparse", "--dimensions", "4"], "--dimensions"),
        (&["embed", "a", "--modes", "sparse", "--no-normalize"], "--no-normalize"),
        (&["embed", "a", "--input", "x"], "--input"),
        (&["rerank", "q", "d", "--lossy"], "--lossy"),
        (&["rerank", "q", "d", "--json", "--raw"], "--raw"),
        (&["embed", "a", "--column", "x"], "--column"),
        (&["score", "a", "b", "--pairs", "x"], "--pairs"),
        (&["score", "a", "b", "--columns", "x,y"], "--columns"),
        (&["pack", "-o", "x", "--budget-mb", "5"], "--budget-mb"),
        (&["pack", "m", "-o", "x", "--model", "n"], "--model"),
        (&["pack", "-o", "x", "--weights", "f32", "--calibration", "none"], "--calibration"),
        (&["import", "m", "-o", "x", "--threads", "1"], "--threads"),
        (&["import", "m", "-o", "x", "--model", "n"], "--model"),
        (&["verify", "m", "--model", "n"], "--model"),
        (&["models", "--threads", "1"], "--threads"),
        (&["--model", "n", "models"], "--model"),
        (&["bench", "--lengths", "--json"], "--json"),
        (&["bench", "--probe", "--shapes", "1x8"], "--shapes"),
        (&["bench", "--path", "x"], "--path"),
        (&["bench", "--synthetic", "bge-m3", "--model", "x"], "--model"),
    ] {
        let (code, said) = cli(args);
        assert!(code == Some(2) && said.contains(option), "{args:?}: {code:?} {said}");
    }
    // A variable or a configuration file may be meant for other commands, so these are accepted.
    let variables = [
        ("TRIVEC_HOST", "0.0.0.0"),
        ("TRIVEC_PORT", "1"),
        ("TRIVEC_CACHE_SIZE", "1GiB"),
        ("TRIVEC_LOG_TEXTS", "1"),
        ("TRIVEC_LOG_LEVEL", "warn"),
        ("TRIVEC_INPUT", "nowhere"),
        ("TRIVEC_LOSSY", "1"),
        ("TRIVEC_PAIRS", "nowhere"),
        ("TRIVEC_BUDGET_MB", "5"),
        ("TRIVEC_RAW", "1"),
        ("TRIVEC_MODEL", "starter"),
    ];
    for args in [
        &["serve", "--print-config", "--unix-socket", "s"][..],
        &["embed", "a"],
        &["score", "a", "b"],
        &["models"],
        &["info"],
    ] {
        let (code, said) = run(trivec().args(args).envs(variables));
        assert_eq!(code, Some(0), "{args:?}: {said}");
    }
    fs::write(&file, "unix_socket = \"s\"\ncache_size = \"1GiB\"\nport = 5\n").unwrap();
    assert_eq!(cli(&["serve", "--config", config, "--print-config"]).0, Some(0));
    let (code, said) = cli(&["serve", "--config", config, "--port", "1"]);
    assert!(code == Some(2) && said.contains("--port") && said.contains("trivec.toml: unix_socket"), "{said}");
    let (code, said) = run(trivec().args(["serve", "--port", "1"]).env("TRIVEC_UNIX_SOCKET", "s"));
    assert!(code == Some(2) && said.contains("TRIVEC_UNIX_SOCKET"), "{said}");
}

#[test]
fn the_chosen_free_port_is_printed_even_with_quiet() {
    let server = Server::start(&["-q"]);
    assert_eq!(server.get("/health").status, 200);
}
