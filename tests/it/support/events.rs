//! A subscriber of `tracing` that keeps what it hears on one thread, so that tests do not hear each other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Level, Metadata, Subscriber};

/// Fields as they are written.
pub type Fields = BTreeMap<String, String>;

/// An event.
#[derive(Clone, Debug)]
pub struct Logged {
    pub name: &'static str,
    pub target: &'static str,
    pub level: Level,
    pub fields: Fields,
    /// The spans around it, the innermost last.
    pub spans: Vec<Fields>,
}

impl Logged {
    /// A field; empty when it is not there.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

#[derive(Default)]
struct State {
    logged: Vec<Logged>,
    spans: BTreeMap<u64, Fields>,
    entered: Vec<u64>,
}

/// What was heard.
#[derive(Clone)]
pub struct Heard(Arc<Mutex<State>>);

/// Hears everything of the library and the tests on this thread, up to a level, while the guard lives.
pub fn hear(most: Level) -> (Heard, DefaultGuard) {
    let heard = Heard(Arc::default());
    let collector = Collector {
        heard: heard.clone(),
        next: AtomicU64::new(1),
        most,
    };
    (heard, tracing::subscriber::set_default(collector))
}

impl Heard {
    pub fn all(&self) -> Vec<Logged> {
        self.0.lock().unwrap().logged.clone()
    }

    pub fn named(&self, name: &str) -> Vec<Logged> {
        let mut all = self.all();
        all.retain(|logged| logged.name == name);
        all
    }

    /// Waits for an event.
    pub async fn first(&self, name: &str) -> Logged {
        super::eventually(name, || !self.named(name).is_empty()).await;
        self.named(name).remove(0)
    }

    /// How many spans there are.
    pub fn open_spans(&self) -> usize {
        self.0.lock().unwrap().spans.len()
    }
}

struct Collector {
    heard: Heard,
    next: AtomicU64,
    most: Level,
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut fields = Writer(Fields::new());
        fields
            .0
            .insert("span".into(), span.metadata().name().into());
        span.record(&mut fields);
        self.heard.0.lock().unwrap().spans.insert(id, fields.0);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Writer(Fields::new());
        values.record(&mut fields);
        let mut state = self.heard.0.lock().unwrap();
        state
            .spans
            .get_mut(&span.into_u64())
            .unwrap()
            .append(&mut fields.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Writer(Fields::new());
        event.record(&mut fields);
        let metadata = event.metadata();
        let mut state = self.heard.0.lock().unwrap();
        let spans = state.entered.iter().map(|id| state.spans[id].clone());
        let logged = Logged {
            name: metadata.name(),
            target: metadata.target(),
            level: *metadata.level(),
            fields: fields.0,
            spans: spans.collect(),
        };
        state.logged.push(logged);
    }

    fn enter(&self, span: &Id) {
        self.heard.0.lock().unwrap().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let left = self.heard.0.lock().unwrap().entered.pop();
        assert_eq!(left, Some(span.into_u64()));
    }

    fn try_close(&self, span: Id) -> bool {
        let mut state = self.heard.0.lock().unwrap();
        state.spans.remove(&span.into_u64());
        true
    }
}

struct Writer(Fields);

impl Visit for Writer {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }
}
