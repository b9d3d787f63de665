//! What the program prints about itself.

use crate::program::{Running, run, text};
use crate::usage::check;

#[test]
fn help_of_each_command_has_examples() {
    let top = run(&["--help"], b"");
    assert_eq!(top.status.code(), Some(0));
    let top = text(&top.stdout);
    assert!(top.contains("Exit codes:"), "{top}");
    assert!(top.contains("  5    benchmark regression"), "{top}");
    for command in [
        "serve",
        "connect",
        "bench",
        "report",
        "top",
        "cert",
        "key",
        "container",
        "completions",
        "man",
    ] {
        assert!(top.contains(&format!("  {command}")), "{top}");
        let help = run(&[command, "--help"], b"");
        assert_eq!(help.status.code(), Some(0), "{command}");
        assert!(text(&help.stdout).contains("Examples:"), "{command}");
        assert!(help.stderr.is_empty());
    }
}

#[test]
fn completions_know_every_option() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell], b"");
        assert_eq!(script.status.code(), Some(0), "{shell}");
        let script = text(&script.stdout);
        for word in [
            "max-connections-per-ip",
            "pipeline-keys",
            "resume-timeout",
            "container",
            "dashboard-token-file",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn manual_pages_are_pages() {
    for arguments in [
        &["man"][..],
        &["man", "serve"],
        &["man", "key"],
        &["man", "container", "convert"],
    ] {
        let page = run(arguments, b"");
        assert_eq!(page.status.code(), Some(0));
        assert!(text(&page.stdout).contains(".TH netsys"), "{arguments:?}");
    }
    for (command, option) in [
        (&["man", "serve"][..], "first\\-byte\\-timeout"),
        (&["man", "serve"], "dashboard\\-host"),
        (&["man", "top"], "interval"),
        (&["man", "connect"], "pipeline\\-keys"),
        (&["man", "container", "show"], "depth"),
    ] {
        assert!(text(&run(command, b"").stdout).contains(option), "{option}");
    }
    check(&["man", "x"], &["`x`", "container"]);
    check(&["man", "container", "x"], &["`x`", "show"]);
    check(&["man", "key", "x"], &["no commands"]);
}

#[test]
fn the_version_is_data() {
    let version = run(&["--version"], b"");
    assert_eq!(
        text(&version.stdout),
        concat!("netsys ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn nobody_who_reads_is_no_error() {
    let mut program = Running::start(&["completions", "zsh"]);
    program.close_stdout();
    let ended = program.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}
