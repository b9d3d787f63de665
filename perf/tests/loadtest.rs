//! The load test against the real program, with moments for cases: its results can be read again, and are judged.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

/// The program `netsys`, built by the tests of the whole workspace or now.
fn netsys() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("netsys");
    if !path.exists() {
        let cargo = env::var_os("CARGO").expect("cargo runs the tests");
        let status = Command::new(cargo)
            .args(["build", "-p", "network-system-cli"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo starts");
        assert!(status.success());
    }
    path
}

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("loadtest-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for files");
        Folder(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn results_are_tables_and_lines_that_a_later_run_is_judged_by() {
    let folder = Folder::new("judged");
    let (json, better) = (folder.file("now.jsonl"), folder.file("better.jsonl"));
    let netsys = netsys();
    let netsys = netsys.to_string_lossy();
    let run = loadtest(&[
        "--quick",
        "--only",
        "tcp,ws,udp",
        "--case",
        "64B",
        "--case",
        "idle",
        "--seconds",
        "0.3",
        "--warmup",
        "0",
        "--netsys",
        &netsys,
        "--json",
        &json,
    ]);
    let (tables, said) = (text(&run.stdout), text(&run.stderr));
    assert_eq!(run.status.code(), Some(0), "{said}");
    for part in [
        "### Throughput",
        "| udp | 64B |",
        "### Memory",
        "| ws | 100 | idle |",
    ] {
        assert!(tables.contains(part), "{part}: {tables}{said}");
    }
    let lines = fs::read_to_string(&json).expect("the results");
    assert_eq!(lines.lines().count(), 5, "{lines}");
    assert!(lines.contains(r#""label":"tcp/throughput/64B""#), "{lines}");

    let same = loadtest(&["--from", &json, "--compare", &json]);
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stderr));

    // A baseline that was ten times as fast.
    let doctored = lines.replace(r#""messages_per_second":"#, r#""messages_per_second":9"#);
    fs::write(&better, doctored).expect("the baseline");
    let worse = loadtest(&["--from", &json, "--compare", &better]);
    let said = text(&worse.stderr);
    assert_eq!(worse.status.code(), Some(5), "{said}");
    assert!(said.contains("regression: a second"), "{said}");

    // On another machine nothing is judged, unless that is asked for.
    let moved = fs::read_to_string(&better).expect("the baseline");
    fs::write(&better, moved.replace(r#""cpu":""#, r#""cpu":"another "#)).expect("the baseline");
    let other = loadtest(&["--from", &json, "--compare", &better]);
    assert_eq!(other.status.code(), Some(0), "{}", text(&other.stderr));
    let judged = loadtest(&["--from", &json, "--compare", &better, "--any-machine"]);
    assert_eq!(judged.status.code(), Some(5), "{}", text(&judged.stderr));
}

#[test]
fn what_cannot_be_measured_is_said() {
    for (arguments, code, expected) in [
        (&["--case", "nothing"][..], 2, "--list"),
        (&["--only", "ftp"], 2, "\"ftp\" is not a scheme"),
        (&["--repeat", "0"], 2, "--repeat"),
        (&["--quick", "--netsys", "/nonexistent"], 1, "/nonexistent"),
        (&["--from", "/nonexistent"], 1, "/nonexistent"),
    ] {
        let run = loadtest(arguments);
        let said = text(&run.stderr);
        assert_eq!(run.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
