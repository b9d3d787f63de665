//! Stages between two programs, and the files of their keys.

use serde_json::Value;

use crate::bench::run_for;
use crate::program::{Folder, Serving, connect, listening, run, text};
use crate::usage::check;

const FIRST: &str = "00112233445566778899aabbccddeeff";
const SECOND: &str = "ffeeddccbbaa99887766554433221100";
const THIRD: &str = "0123456789abcdef0123456789abcdef";

/// Files of keys in a folder of the test's own.
struct KeyFiles(Folder);

impl KeyFiles {
    fn new(test: &str) -> Self {
        KeyFiles(Folder::new(test))
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.0.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A file with one key for encryption.
    fn one(&self, name: &str) -> String {
        self.write(name, &format!("1 {FIRST}\n"))
    }
}

/// Lines that can be compressed and lines that cannot, short and long.
fn lines() -> String {
    let long = "a long line ".repeat(400);
    let of = |number: usize| match number % 50 {
        0 => format!("{number} {long}\n"),
        _ => format!("line {number}\n"),
    };
    (0..1_000).map(of).collect()
}

/// Sends lines through a server's echo, expects all of them back, and returns the stages that were agreed on.
fn echo(url: &str, options: &[&str]) -> Vec<String> {
    let lines = lines();
    let ended = connect(url, options, lines.as_bytes());
    assert_eq!(ended.code, Some(0), "{url} {options:?}: {}", ended.stderr);
    assert!(ended.stdout == lines, "{url} {options:?}");
    let ended = connect(url, &[options, &["--json"]].concat(), b"");
    let connected: Value = serde_json::from_str(ended.stderr.lines().next().unwrap()).unwrap();
    match &connected["pipeline"] {
        Value::Array(names) => names
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_stage_is_agreed_on_and_carries_what_is_sent() {
    let files = KeyFiles::new("pipeline-stages");
    let keys = files.one("keys");
    let hmac = files.write("hmac", &format!("# comment\n{FIRST} # the first\n"));
    let encryption = ["--pipeline-keys", &keys];
    let authentication = ["--hmac-keys", &hmac];
    for (stages, more) in [
        ("lz4", vec![]),
        ("zstd", vec!["--pipeline-threshold", "1"]),
        ("gzip", vec![]),
        ("deflate", vec![]),
        ("aes-256-gcm", encryption.to_vec()),
        ("chacha20-poly1305", encryption.to_vec()),
        ("hmac-sha256", authentication.to_vec()),
        ("lz4,aes-256-gcm", encryption.to_vec()),
    ] {
        let options = [&["--pipeline", stages], &more[..]].concat();
        for (listen, hello) in [
            ("tcp://127.0.0.1:0", true),
            ("ws://127.0.0.1:0/x", true),
            ("tcp://127.0.0.1:0?codec=length", false),
        ] {
            let without: &[&str] = match hello {
                true => &[],
                false => &["--pipeline-without-hello", "on"],
            };
            let options = [&options[..], without].concat();
            let server = Serving::at(listen, &options);
            let agreed = echo(&server.url, &options);
            assert_eq!(agreed.join(","), stages, "{listen}");
        }
    }
}

#[test]
fn the_server_chooses_in_its_own_order() {
    let server = Serving::start(&["--pipeline", "zstd,lz4"]);
    assert_eq!(echo(&server.url, &["--pipeline", "lz4,zstd"]), ["zstd"]);
    assert_eq!(echo(&server.url, &["--pipeline", "gzip,lz4"]), ["lz4"]);
    assert!(echo(&server.url, &["--pipeline", "gzip"]).is_empty());
    assert!(echo(&server.url, &[]).is_empty());
}

#[test]
fn other_keys_end_the_session_and_are_not_shown() {
    let files = KeyFiles::new("pipeline-wrong");
    let (keys, wrong) = (
        files.one("keys"),
        files.write("wrong", &format!("1 {SECOND}\n")),
    );
    let unknown = files.write("unknown", &format!("2 {SECOND}\n"));
    for stage in ["aes-256-gcm", "chacha20-poly1305"] {
        let server = Serving::start(&["--pipeline", stage, "--pipeline-keys", &keys]);
        for (file, words) in [(&wrong, "different keys"), (&unknown, "key")] {
            for more in [&[][..], &["--request"], &["--pipeline-failure", "drop"]] {
                let options = ["--pipeline", stage, "--pipeline-keys", file];
                let ended = connect(&server.url, &[&options[..], more].concat(), b"hello\n");
                let said = ended.stderr;
                assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{said}");
                for word in ["pipeline_failed", stage, words] {
                    assert!(said.contains(word), "{word}: {said}");
                }
                assert!(!said.contains(FIRST) && !said.contains(SECOND), "{said}");
            }
        }
        // The others are not affected, and the server is not either.
        let options = ["--pipeline", stage, "--pipeline-keys", &keys];
        assert_eq!(echo(&server.url, &options), [stage]);
        let ended = server.program.terminate();
        assert_eq!(ended.code, Some(0));
        assert!(!ended.stderr.contains(FIRST), "{}", ended.stderr);
    }
    let (hmac, wrong) = (
        files.write("hmac", FIRST),
        files.write("hmac-wrong", SECOND),
    );
    let both = files.write("hmac-both", &format!("{FIRST}\n{SECOND}\n"));
    let server = Serving::start(&["--pipeline", "hmac-sha256", "--hmac-keys", &both]);
    let with = ["--pipeline", "hmac-sha256", "--hmac-keys"];
    let options = [&with[..], &[&hmac]].concat();
    assert_eq!(echo(&server.url, &options), ["hmac-sha256"]);
    // The server answers with its first key, when the client is already leaving.
    for fate in ["disconnect", "drop"] {
        let fate = ["--pipeline-failure", fate];
        let options = [&with[..], &[&wrong], &fate].concat();
        let ended = connect(&server.url, &options, b"hello\n");
        let said = ended.stderr;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{said}");
        assert!(said.contains("pipeline_failed: hmac-sha256"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn what_is_required_and_missing_is_named() {
    let files = KeyFiles::new("pipeline-required");
    let keys = files.one("keys");
    let server = Serving::start(&["--pipeline", "lz4,aes-256-gcm", "--pipeline-keys", &keys]);
    for options in [
        &[][..],
        &["--pipeline", "lz4"],
        &["--pipeline", "chacha20-poly1305", "--pipeline-keys", &keys],
    ] {
        let ended = connect(&server.url, options, b"hello\n");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""));
        for word in ["pipeline_failed", "needs aes-256-gcm"] {
            assert!(ended.stderr.contains(word), "{}", ended.stderr);
        }
    }
    // It is for the client to insist, too.
    let server = Serving::start(&[]);
    for options in [
        &["--pipeline", "aes-256-gcm", "--pipeline-keys", &keys][..],
        &["--pipeline", "lz4", "--pipeline-require", "all"],
    ] {
        let ended = connect(&server.url, options, b"hello\n");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""));
        assert!(
            ended.stderr.contains("the pipeline needs"),
            "{}",
            ended.stderr
        );
    }
    let offered = [
        "--pipeline",
        "aes-256-gcm",
        "--pipeline-keys",
        &keys,
        "--pipeline-require",
        "none",
    ];
    assert!(echo(&server.url, &offered).is_empty());
}

#[test]
#[cfg(unix)]
fn keys_change_while_messages_flow_and_none_is_lost() {
    use std::io::Write;

    use crate::program::Running;

    const FIRST_PART: usize = 20_000;
    const ALL: usize = 22_000;
    let files = KeyFiles::new("pipeline-rotation");
    // The sides begin with different keys.
    let serving = files.write("server", &format!("1 {FIRST}\n2 {SECOND}\n"));
    let connecting = files.write("client", &format!("2 {SECOND}\n1 {FIRST}\n"));
    let stages = ["--pipeline", "lz4,aes-256-gcm", "--pipeline-threshold", "8"];
    let mut server = Serving::start(&[&stages[..], &["--pipeline-keys", &serving]].concat());
    let url = server.url.clone();
    let keys = ["--pipeline-keys", &connecting];
    let arguments = [&["connect", &url][..], &stages, &keys].concat();
    let mut client = Running::start(&arguments);

    let mut stdin = client.stdin.take().unwrap();
    let (go_on, told) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        for number in 0..ALL {
            if number == FIRST_PART {
                told.recv().unwrap();
            }
            writeln!(stdin, "message {number}").unwrap();
        }
    });
    let change = |program: &mut Running, file: &str, keys: &str, used: u32| {
        files.write(file, keys);
        program.signal(rustix::process::Signal::HUP);
        let said = program.error_line();
        assert!(
            said.contains("keys read again") && said.contains(&format!("{used} is used")),
            "{said}"
        );
    };
    let with_third = format!("2 {SECOND}\n1 {FIRST}\n3 {THIRD}\n");
    let third_first = format!("3 {THIRD}\n2 {SECOND}\n1 {FIRST}\n");
    let third = format!("3 {THIRD}\n");
    for number in 0..ALL {
        assert_eq!(client.line(), format!("message {number}"));
        match number {
            2_000 => change(&mut server.program, "server", &with_third, 2),
            5_000 => change(&mut client, "client", &with_third, 2),
            8_000 => change(&mut client, "client", &third_first, 3),
            11_000 => change(&mut server.program, "server", &third_first, 3),
            // Everything that was sent with the old keys has come.
            _ if number == FIRST_PART - 1 => {
                change(&mut server.program, "server", &third, 3);
                change(&mut client, "client", &third, 3);
                go_on.send(()).unwrap();
            }
            _ => {}
        }
    }
    writer.join().unwrap();
    let ended = client.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(server.program.terminate().code, Some(0));
}

#[test]
#[cfg(unix)]
fn a_hangup_with_a_bad_file_changes_nothing() {
    let files = KeyFiles::new("pipeline-hangup");
    let keys = files.one("keys");
    let client = files.write("client", &format!("1 {FIRST}\n"));
    let mut server = Serving::start(&["--pipeline", "aes-256-gcm", "--pipeline-keys", &keys]);
    let url = server.url.clone();
    let code = |file: &str| {
        let options = ["--pipeline", "aes-256-gcm", "--pipeline-keys", file];
        connect(&url, &options, b"hello\n").code
    };
    let mut hangup = || {
        server.program.signal(rustix::process::Signal::HUP);
        server.program.error_line()
    };
    assert_eq!(code(&client), Some(0));
    let many: String = (10..75)
        .map(|number| format!("{number} {SECOND}{number:08}\n"))
        .collect();
    for (content, word) in [
        ("", "there is no key"),
        ("# nothing\n\n", "there is no key"),
        ("1 xyz\n", "line 1"),
        ("\n2 00ff\n", "line 2"),
        (SECOND, "a number"),
        (&format!("2 {SECOND}\n1 {THIRD}\n")[..], "new number"),
        (&format!("2 {SECOND}\n2 {THIRD}\n")[..], "a key 2 already"),
        (&format!("2 {FIRST}\n")[..], "the secret"),
        (&many[..], "64"),
    ] {
        files.write("keys", content);
        let said = hangup();
        for word in ["keys stay as they are", &keys, word] {
            assert!(said.contains(word), "{content}: no {word:?} in {said}");
        }
        for secret in [FIRST, SECOND, THIRD] {
            assert!(!said.contains(secret), "{said}");
        }
        assert_eq!(code(&client), Some(0), "{content}");
    }
    std::fs::remove_file(&keys).unwrap();
    assert!(hangup().contains("No such file"));
    // Nobody writes to it, and the server does not wait for that.
    let made = std::process::Command::new("mkfifo").arg(&keys).status();
    assert!(made.unwrap().success());
    assert!(hangup().contains("not a file"));
    assert_eq!(code(&client), Some(0));
    std::fs::remove_file(&keys).unwrap();
    // What was refused before is taken when it is right: no part of it was.
    files.write("keys", &format!("2 {THIRD}\n"));
    assert!(hangup().contains("2 is used"));
    assert_eq!(code(&client), Some(1), "the old key is gone");
    assert_eq!(code(&keys), Some(0));
    assert_eq!(server.program.terminate().code, Some(0));
}

#[test]
#[cfg(unix)]
fn a_hangup_reads_certificates_and_keys_each_for_itself() {
    let files = KeyFiles::new("pipeline-tls");
    let folder = files.0.path("");
    let made = run(&["cert", &folder], b"");
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let keys = files.one("keys");
    let hmac = files.write("hmac", FIRST);
    let (cert, key) = (files.0.path("server.pem"), files.0.path("server.key"));
    let mut server = Serving::at(
        "tls://127.0.0.1:0",
        &[
            "--cert",
            &cert,
            "--key",
            &key,
            "--pipeline",
            "aes-256-gcm,hmac-sha256",
            "--pipeline-keys",
            &keys,
            "--hmac-keys",
            &hmac,
        ],
    );
    let good = std::fs::read_to_string(&key).unwrap();
    for (certificates, content, words) in [
        (
            &good[..],
            "broken",
            ["certificates read again", "keys stay as"],
        ),
        (
            "broken",
            &format!("2 {SECOND}\n")[..],
            ["certificates stay as", "keys read again"],
        ),
    ] {
        std::fs::write(&key, certificates).unwrap();
        files.write("keys", content);
        server.program.signal(rustix::process::Signal::HUP);
        // It is said what is not read again.
        let said = server.program.error_line();
        assert!(said.contains("--hmac-keys"), "{said}");
        for word in words {
            let said = server.program.error_line();
            assert!(said.contains(word), "no {word:?} in {said}");
        }
    }
    assert_eq!(server.program.terminate().code, Some(0));
}

#[test]
fn the_configuration_file_has_the_same_options() {
    let files = KeyFiles::new("pipeline-file");
    let (keys, hmac) = (files.one("keys"), files.write("hmac", FIRST));
    let config = files.write(
        "serve.toml",
        &format!(
            "listen = \"tcp://127.0.0.1:0\"\npipeline = [\"zstd\", \"aes-256-gcm\", \"hmac-sha256\"]\n\
             pipeline-keys = {keys:?}\nhmac-keys = {hmac:?}\npipeline-require = \"all\"\n\
             pipeline-threshold = 1\npipeline-failure = \"drop\"\npipeline-without-hello = false\n\
             log-messages = true\n"
        ),
    );
    let mut program = crate::program::Running::start(&["serve", "--config", &config]);
    let url = listening(&program.line());
    let options = [
        "--pipeline",
        "hmac-sha256,aes-256-gcm,zstd",
        "--pipeline-keys",
        &keys,
        "--hmac-keys",
        &hmac,
    ];
    // The client's own order would be refused: compression comes first.
    let ended = connect(&url, &options, b"");
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let stages = ["--pipeline", "zstd,aes-256-gcm,hmac-sha256"];
    let options = [&stages[..], &options[2..]].concat();
    let ended = connect(&url, &options, b"hello\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "hello\n"));
    let said = program.error_line();
    assert!(
        said.contains("bytes=5") && !said.contains("hello"),
        "{said}"
    );
}

#[test]
fn messages_are_logged_when_that_is_asked_for_and_without_what_they_say() {
    let server = Serving::start(&[]);
    let ended = connect(&server.url, &["--log-messages", "on"], b"secret\n");
    assert_eq!(ended.stdout, "secret\n");
    let logged: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(logged.len(), 2, "one each way: {logged:?}");
    assert!(
        logged[0].contains("sent") && logged[1].contains("received"),
        "{logged:?}"
    );
    assert!(!ended.stderr.contains("secret"));
    for silent in [&["-q"][..], &["--log", "off"]] {
        let options = [&["--log-messages", "on"][..], silent].concat();
        assert_eq!(connect(&server.url, &options, b"secret\n").stderr, "");
    }
}

#[test]
fn benchmarks_say_what_messages_went_through() {
    let files = KeyFiles::new("pipeline-bench");
    let keys = files.one("keys");
    let options = ["--pipeline", "lz4,aes-256-gcm", "--pipeline-keys", &keys];
    for (listen, size) in [
        ("tcp://127.0.0.1:0", "4KiB"),
        ("udp://127.0.0.1:0?codec=msgi", "1400"),
    ] {
        // Room for what the stages add.
        let large = ["--udp-datagram-size", "1500"];
        let server = Serving::at(listen, &[&options[..], &large].concat());
        let arguments = [
            &["bench", &server.url, "--warmup", "0", "--size", size][..],
            &["--json", "-"],
            &options,
        ]
        .concat();
        let output = run_for("200ms", &arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result["pipeline"].to_string(), r#"["lz4","aes-256-gcm"]"#);
        assert_eq!(result["errors"], 0, "{result}");
        let output = run_for("200ms", &[&arguments[..6], &options].concat());
        assert!(text(&output.stdout).contains("lz4 + aes-256-gcm"));
    }
    let server = Serving::start(&[]);
    let output = run(
        &[
            "bench",
            &server.url,
            "--duration",
            "50ms",
            "--warmup",
            "0",
            "--json",
            "-",
        ],
        b"",
    );
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["pipeline"].to_string(), "[]");
}

#[test]
fn keys_are_made_for_both_kinds_of_files() {
    let of = |arguments: &[&str]| {
        let output = run(&[&["key"][..], arguments].concat(), b"");
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        text(&output.stdout)
    };
    let (first, other) = (of(&["--id", "7"]), of(&["--id", "7"]));
    assert_ne!(first, other);
    let secret = first.strip_prefix("7 ").unwrap().trim_end();
    assert!(secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let files = KeyFiles::new("pipeline-key");
    let (keys, hmac) = (files.write("keys", &first), files.write("hmac", &of(&[])));
    let options = [
        "--pipeline",
        "aes-256-gcm,hmac-sha256",
        "--pipeline-keys",
        &keys,
        "--hmac-keys",
        &hmac,
    ];
    let server = Serving::start(&options);
    assert_eq!(echo(&server.url, &options), ["aes-256-gcm", "hmac-sha256"]);
}

#[test]
fn options_are_obeyed_or_refused() {
    let files = KeyFiles::new("pipeline-usage");
    let keys = files.one("keys");
    let aes = ["--pipeline", "aes-256-gcm", "--pipeline-keys", &keys];
    let lz4 = ["--pipeline", "lz4"];
    let without = ["--pipeline-without-hello", "on"];
    let lines = "tcp://127.0.0.1:0?codec=lines";
    let tcp = "tcp://127.0.0.1:7600";
    for (url, options, words) in [
        // Nobody is left who could agree.
        (lines, vec![&aes[..]], ["--pipeline", lines]),
        (lines, vec![&lz4], ["no hello", lines]),
        (lines, vec![&lz4, &without], ["lines of text", lines]),
        ("udp://127.0.0.1:0", vec![&aes], ["no hello", "MSGI"]),
        (
            "udp://127.0.0.1:0",
            vec![&aes, &without],
            ["loses", "codec=msgi"],
        ),
        // Options without what they are for.
        (
            tcp,
            vec![&["--pipeline-threshold", "1"]],
            ["--pipeline", "missing"],
        ),
        (tcp, vec![&without], ["--pipeline", "missing"]),
        (
            tcp,
            vec![&["--pipeline-require", "all"]],
            ["--pipeline", "missing"],
        ),
        (
            tcp,
            vec![&aes, &["--pipeline-threshold", "1"]],
            ["--pipeline-threshold", "compression"],
        ),
        (tcp, vec![&aes[2..]], ["--pipeline-keys", "means nothing"]),
        (tcp, vec![&aes[..2]], ["--pipeline-keys", "is needed"]),
        (
            tcp,
            vec![&["--pipeline", "hmac-sha256"]],
            ["--hmac-keys", "is needed"],
        ),
        // Stages.
        (tcp, vec![&["--pipeline", "lz5"]], ["`lz5`", "lz4, zstd"]),
        (tcp, vec![&["--pipeline", "lz4,lz4"]], ["two stages", "lz4"]),
        (
            tcp,
            vec![&["--pipeline", "lz4,zstd"], &without],
            ["without hello", "choice"],
        ),
        (
            tcp,
            vec![&lz4, &["--pipeline-require", "some"]],
            ["`some`", "security, all or none"],
        ),
        (
            tcp,
            vec![&lz4, &["--pipeline-failure", "x"]],
            ["`x`", "disconnect or drop"],
        ),
    ] {
        let options = options.concat();
        check(
            &[&["serve", "--listen", url][..], &options].concat(),
            &words,
        );
        if !url.contains(":0") {
            check(&[&["connect", url][..], &options].concat(), &words);
            check(&[&["bench", url][..], &options].concat(), &words);
        }
    }
    let ws = "ws://127.0.0.1:7601";
    for (url, options, words) in [
        (ws, vec![&["--plain"][..], &aes], ["no hello", ws]),
        (
            ws,
            vec![&["--plain"], &lz4],
            ["no hello", "--pipeline-without-hello"],
        ),
        (
            ws,
            vec![&["--msgi"], &lz4, &without],
            ["--pipeline-without-hello", "means nothing"],
        ),
        (
            tcp,
            vec![&lz4, &without],
            ["--pipeline-without-hello", "means nothing"],
        ),
        ("udp://127.0.0.1:7602", vec![&lz4], ["no hello", "MSGI"]),
    ] {
        let options = options.concat();
        check(&[&["connect", url][..], &options].concat(), &words);
        check(&[&["bench", url][..], &options].concat(), &words);
    }
    check(&["key", "--id", "-1"], &["--id"]);
    check(&["key", "--id", "4294967296"], &["--id", "4294967295"]);
}

#[test]
fn a_key_in_the_place_of_its_file_is_not_shown() {
    for options in [
        ["--pipeline", "aes-256-gcm", "--pipeline-keys", FIRST],
        ["--pipeline", "hmac-sha256", "--hmac-keys", FIRST],
    ] {
        let output = run(&[&["serve"][..], &options].concat(), b"");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("file") && !said.contains(FIRST), "{said}");
    }
}
