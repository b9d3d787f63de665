//! The page about error codes has every code, and only those.

#![allow(missing_docs, reason = "a test's name is its documentation")]

use network_system::ErrorCode;

const PAGE: &str = include_str!("../docs/troubleshooting.md");

#[test]
fn every_error_code_has_its_section_in_numeric_order() {
    let sections: Vec<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let codes: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| format!("\u{2212}{} {}", -code.as_i32(), code.name()))
        .collect();
    assert_eq!(sections, codes);
}

#[test]
fn the_page_says_of_each_code_whether_to_retry() {
    for code in ErrorCode::ALL {
        let heading = format!("### \u{2212}{} ", -code.as_i32());
        let section = PAGE.split(&heading).nth(1).unwrap_or_default();
        let answer = match code.is_retryable() {
            true => "Retry: yes",
            false => "Retry: no",
        };
        let first = section.lines().nth(2).unwrap_or_default();
        assert!(first.contains(answer), "{}: {first}", code.name());
    }
}
