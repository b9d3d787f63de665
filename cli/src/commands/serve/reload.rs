//! What is read again on SIGHUP: certificates, and the keys of a pipeline.

use serde_json::json;

use super::certificates::Certificates;
use crate::output::Output;
use crate::settings::KeyFile;

pub(super) struct Reload {
    keys: Option<KeyFile>,
    output: Output,
}

impl Reload {
    pub(super) fn new(keys: Option<KeyFile>, output: Output) -> Self {
        Reload { keys, output }
    }

    pub(super) fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Reads all files again. When something is wrong with one, what was read before stays.
    pub(super) async fn all(&self, certificates: &Certificates) {
        if !certificates.has_files() && !self.has_keys() {
            let text = "SIGHUP: there are no certificates and no keys to read again";
            self.output
                .note(&json!({ "event": "nothing_to_reload", "text": text }), text);
        }
        certificates.reload().await;
        if let Some(keys) = &self.keys {
            self.keys(keys.clone()).await;
        }
    }

    async fn keys(&self, keys: KeyFile) {
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
                return self.output.note(&event, &text);
            }
            Ok(Err(error)) => error,
            Err(error) => error.to_string(),
        };
        let text = format!("the keys stay as they are: {error}");
        self.output
            .problem(&json!({ "event": "reload_failed", "text": text }), &text);
    }
}
