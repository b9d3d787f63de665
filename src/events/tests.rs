#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::HashSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::*;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/logging.md");
const BEGIN: &str = "<!-- events: written by UPDATE=1 cargo test --lib events -->\n";
const END: &str = "<!-- end of events -->";

fn table() -> String {
    let mut table = String::from(BEGIN);
    let mut target = "";
    for known in ALL {
        if known.target != target {
            target = known.target;
            write!(
                table,
                "\n### `{target}`\n\n| name | level | fields | when |\n|---|---|---|---|\n"
            )
            .unwrap();
        }
        let mut fields: Vec<_> = known.fields.to_vec();
        if known.limited {
            fields.push("suppressed");
        }
        let fields: Vec<_> = fields.iter().map(|field| format!("`{field}`")).collect();
        writeln!(
            table,
            "| `{}` | {} | {} | {} |",
            known.name,
            known.level.to_lowercase(),
            fields.join(", "),
            known.when.trim()
        )
        .unwrap();
    }
    table + "\n"
}

#[test]
fn the_documented_table_is_what_the_code_can_emit() {
    let text = fs::read_to_string(TABLE).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the begin of the table");
    let (_, after) = rest.split_once(END).expect("the end of the table");
    let expected = format!("{before}{}{END}{after}", table());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(TABLE, expected).unwrap();
        return;
    }
    assert!(
        text == expected,
        "docs/logging.md is out of date, run with UPDATE=1"
    );
}

#[test]
fn nothing_is_logged_but_by_this_module() {
    fn look(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, found);
                continue;
            }
            // The stage that logs messages has a level of the application's choice.
            let may = ["events/mod.rs", "pipeline/log/mod.rs", "tests.rs"];
            if may.iter().any(|end| path.ends_with(end)) {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for level in ["trace", "debug", "info", "warn", "error", "event", "span"] {
                if text.contains(&format!("tracing::{level}!(")) {
                    found.push(format!("{}: tracing::{level}!", path.display()));
                }
            }
        }
    }
    let mut found = Vec::new();
    look(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut found,
    );
    assert!(found.is_empty(), "events belong in src/events: {found:#?}");
}

#[test]
fn names_are_unique() {
    let mut names = HashSet::new();
    for known in ALL {
        assert!(names.insert(known.name), "{} is there twice", known.name);
    }
}

#[test]
fn a_limiter_tells_a_few_and_then_how_many_it_did_not_tell() {
    let limiter = Limiter::new();
    let told = (0..1_000).filter_map(|_| limiter.admit_at(5)).count();
    assert_eq!(told, BURST as usize);
    assert_eq!(
        limiter.admit_at(5 + WINDOW_MILLIS),
        Some(1_000 - u64::from(BURST))
    );
    assert_eq!(limiter.admit_at(6 + WINDOW_MILLIS), Some(0));
}

#[test]
fn a_text_of_a_peer_is_one_line_of_bounded_length() {
    let text = Shown("a\nb\u{1b}[31m\u{202e}").to_string();
    assert_eq!(text, "a\\nb\\u{1b}[31m\\u{202e}");
    let long = Shown("é".repeat(10_000)).to_string();
    assert_eq!(long.chars().count(), SHOWN_CHARS);
    assert!(long.ends_with('…'));
    assert_eq!(
        Shown("é".repeat(SHOWN_CHARS - 1))
            .to_string()
            .chars()
            .count(),
        SHOWN_CHARS - 1
    );
}
