//! What the program prints about itself.

use crate::program::{Running, run, text};

#[test]
fn help_of_each_command_has_examples() {
    let top = run(&["--help"], b"");
    assert_eq!(top.status.code(), Some(0));
    let top = text(&top.stdout);
    assert!(top.contains("Exit codes:"), "{top}");
    for command in ["serve", "connect", "bench", "cert", "completions", "man"] {
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
        assert!(
            text(&script.stdout).contains("max-connections-per-ip"),
            "{shell}"
        );
    }
}

#[test]
fn manual_pages_are_pages() {
    for arguments in [&["man"][..], &["man", "serve"]] {
        let page = run(arguments, b"");
        assert_eq!(page.status.code(), Some(0));
        assert!(text(&page.stdout).contains(".TH netsys"), "{arguments:?}");
    }
    assert!(text(&run(&["man", "serve"], b"").stdout).contains("first\\-byte\\-timeout"));
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
