//! A subscriber of `tracing` that keeps what it hears on one thread, so that tests do not hear each other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

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
    open_spans: usize,
}

/// What was heard.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<State>>);

/// Hears everything of the library and the tests on this thread, up to a level, while the guard lives.
pub fn hear(most: Level) -> (Heard, DefaultGuard) {
    // Subscribers come and go on other threads meanwhile, and `tracing` remembers for each place in the code
    // whether anybody listens. With one that never decides, it always asks.
    static UNDECIDED: Once = Once::new();
    UNDECIDED.call_once(|| tracing::subscriber::set_global_default(Undecided).unwrap());
    let heard = Heard::default();
    let subscriber = Registry::default()
        .with(LevelFilter::from_level(most))
        .with(Collector(heard.clone()));
    (heard, tracing::subscriber::set_default(subscriber))
}

/// Hears nothing, and leaves open whether it might.
struct Undecided;

impl Subscriber for Undecided {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
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
        self.0.lock().unwrap().open_spans
    }
}

struct Collector(Heard);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Writer(Fields::new());
        fields
            .0
            .insert("span".into(), span.metadata().name().into());
        span.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields.0);
        self.0.0.lock().unwrap().open_spans += 1;
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Writer(Fields::new());
        values.record(&mut fields);
        let span = context.span(id).unwrap();
        let mut known = span.extensions_mut();
        known.get_mut::<Fields>().unwrap().append(&mut fields.0);
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut fields = Writer(Fields::new());
        event.record(&mut fields);
        let scope = context.event_scope(event).into_iter();
        let spans = scope.flat_map(|scope| scope.from_root());
        let metadata = event.metadata();
        let logged = Logged {
            name: metadata.name(),
            target: metadata.target(),
            level: *metadata.level(),
            fields: fields.0,
            spans: spans
                .map(|span| span.extensions().get::<Fields>().unwrap().clone())
                .collect(),
        };
        self.0.0.lock().unwrap().logged.push(logged);
    }

    fn on_close(&self, _: Id, _: Context<'_, S>) {
        self.0.0.lock().unwrap().open_spans -= 1;
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
