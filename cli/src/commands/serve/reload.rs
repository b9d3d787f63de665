//! What is read again on SIGHUP: certificates, and the keys of a pipeline.

use serde_json::json;

use super::certificates::Certificates;
use crate::commands::reload;
use crate::output::Output;
use crate::settings::{KeyFile, PipelineSettings};

pub(super) struct Reload {
    keys: Option<KeyFile>,
    has_fixed_keys: bool,
    output: Output,
}

impl Reload {
    pub(super) fn new(pipeline: Option<&PipelineSettings>, output: Output) -> Self {
        Reload {
            keys: pipeline.and_then(|known| known.keys.clone()),
            has_fixed_keys: pipeline.is_some_and(|known| known.has_fixed_keys),
            output,
        }
    }

    pub(super) fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Reads all files again. When something is wrong with one, what was read before stays.
    pub(super) async fn all(&self, certificates: &Certificates) {
        if self.has_fixed_keys {
            let text = "SIGHUP: --hmac-keys is not read again, only at the start";
            self.note("not_reloaded", text);
        } else if !certificates.has_files() && !self.has_keys() {
            let text = "SIGHUP: there are no certificates and no keys to read again";
            self.note("nothing_to_reload", text);
        }
        certificates.reload().await;
        if let Some(keys) = &self.keys {
            reload::keys(keys.clone(), self.output).await;
        }
    }

    fn note(&self, event: &str, text: &str) {
        self.output
            .note(&json!({ "event": event, "text": text }), text);
    }
}
