//! CONTROL payloads.

use network_system::internal::Control;

/// The input is a payload. Promises: reading it does not panic, a refusal has a text that fits into an ERROR
/// frame and is one line, what was understood is written in a form that reads as the same, and
/// debug output shows no secret.
pub fn run(data: &[u8]) {
    match Control::parse(data) {
        Ok(control) => {
            let shown = format!("{control:?}");
            if let Some(written) = control.to_bytes() {
                assert_eq!(Control::parse(&written).as_ref(), Ok(&control));
                let text = std::str::from_utf8(&written).expect("JSON is text");
                assert_hidden(text, &shown, "\"token\":\"");
                assert_hidden(text, &shown, "\"resume_token\":\"");
            }
        }
        Err(text) => {
            assert!(
                !text.is_empty() && text.len() <= 1_024,
                "{} bytes",
                text.len()
            );
            assert!(!text.contains(['\n', '\r']), "{text:?}");
        }
    }
}

/// A secret that is long enough not to stand there by chance is not in `shown`.
fn assert_hidden(json: &str, shown: &str, before: &str) {
    if let Some(at) = json.find(before) {
        let secret: String = json[at + before.len()..]
            .chars()
            .take_while(|&letter| letter.is_ascii_alphanumeric())
            .collect();
        let written_once = json.matches(secret.as_str()).count() == 1;
        assert!(secret.len() < 24 || !written_once || !shown.contains(&secret));
    }
}
