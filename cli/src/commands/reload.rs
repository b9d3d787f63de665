//! Keys that are read again on SIGHUP.

use serde_json::json;

use crate::output::Output;
use crate::settings::KeyFile;

/// Reads a file of keys again, and says what has come of it. When something is wrong with it, the keys stay as they
/// are.
pub(super) async fn keys(keys: KeyFile, output: Output) {
    let read = tokio::task::spawn_blocking(move || keys.reload()).await;
    let error = match read {
        Ok(Ok(change)) => {
            let event = json!({
                "event": "keys_reloaded", "active": change.active, "keys": change.ids
            });
            let all: Vec<_> = change.ids.iter().map(u32::to_string).collect();
            let text = format!(
                "keys read again: {} is used, understood are {}",
                change.active,
                all.join(", ")
            );
            return output.note(&event, &text);
        }
        Ok(Err(error)) => error,
        Err(error) => error.to_string(),
    };
    let text = format!("the keys stay as they are: {error}");
    output.problem(&json!({ "event": "reload_failed", "text": text }), &text);
}
