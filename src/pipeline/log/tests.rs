#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use super::*;
use crate::pipeline::{
    CustomStage, HmacSha256, LinkContext, LinkPipeline, Pipeline, Secret, StageScratch,
};

/// Collects the events of a thread, one text each.
struct Collect {
    level: Level,
    events: Arc<Mutex<Vec<String>>>,
}

impl Subscriber for Collect {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.0 += &format!(" {}={value:?}", field.name());
            }
        }
        let mut text = Text(format!(
            "{} {}",
            event.metadata().level(),
            event.metadata().target()
        ));
        event.record(&mut text);
        self.events.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn events_of(level: Level, run: impl FnOnce()) -> Vec<String> {
    let events = Arc::default();
    let collect = Collect {
        level,
        events: Arc::clone(&events),
    };
    tracing::subscriber::with_default(collect, run);
    std::mem::take(&mut events.lock().unwrap())
}

fn link(pipeline: &Pipeline) -> LinkPipeline {
    let context = LinkContext {
        is_client: true,
        handshake: None,
        is_lossy: false,
        session: 42,
    };
    LinkPipeline::new(pipeline, &pipeline.all(), &context).unwrap()
}

/// What comes out of all stages, and then what comes back.
fn pass(link: &mut LinkPipeline, message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut scratch = StageScratch::default();
    link.encode(message, 0, 10_000, &mut scratch).unwrap();
    let encoded = scratch.result.clone();
    let mut decoded = b"before".to_vec();
    link.decode(&encoded, 10_000, &mut scratch, &mut decoded)
        .unwrap();
    assert!(decoded.starts_with(b"before"));
    (encoded, decoded.split_off(6))
}

fn log(log: MessageLog, message: &[u8], level: Level) -> Vec<String> {
    let pipeline = Pipeline::builder().offer(log).build().unwrap();
    let mut link = link(&pipeline);
    events_of(level, || {
        assert_eq!(
            pass(&mut link, message),
            (message.to_vec(), message.to_vec())
        );
    })
}

#[test]
fn each_message_is_an_event_with_its_session_direction_and_length() {
    for level in [
        Level::ERROR,
        Level::WARN,
        Level::INFO,
        Level::DEBUG,
        Level::TRACE,
    ] {
        let events = log(MessageLog::new(level), b"secret", Level::TRACE);
        let expected = ["sent", "received"].map(|direction| {
            format!(
                "{level} network_system::message message=message session=42 \
                 direction={direction:?} bytes=6"
            )
        });
        assert_eq!(events, expected);
    }
}

#[test]
fn messages_below_the_level_that_somebody_listens_to_are_no_events() {
    let events = log(MessageLog::new(Level::DEBUG), b"secret", Level::INFO);
    assert!(events.is_empty());
}

#[test]
fn payloads_are_shown_when_asked_for_and_only_so_far() {
    let shown = |message: &[u8], most| {
        let log_stage = MessageLog::new(Level::INFO).with_payload(most);
        let events = log(log_stage, message, Level::INFO);
        let (_, payload) = events[0].split_once("payload=").unwrap();
        payload.to_owned()
    };
    assert_eq!(shown(b"hello", 100), "hello");
    assert_eq!(shown(b"hello", 3), "hel");
    assert_eq!(shown("grün".as_bytes(), 100), "grün");
    assert_eq!(shown("grün".as_bytes(), 3), "gr");
    // Nothing that would look like another line or colour a terminal.
    assert_eq!(shown(b"a\nb\x1B[31m", 100), "a\\nb\\u{1b}[31m");
    assert_eq!(shown(b"\xFF\x00\n", 100), "\\xff\\x00\\n");
    assert_eq!(shown(b"", 100), "");
}

type Seen = Arc<Mutex<Vec<(&'static str, Direction, Vec<u8>)>>>;

/// Notes what it sees, and must be asked nothing else.
#[derive(Clone)]
struct Watch {
    name: &'static str,
    seen: Seen,
}

impl Stage for Watch {
    fn encode(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), StageError> {
        Err(StageError::new("an observer does not encode"))
    }

    fn decode(&mut self, _: &[u8], _: usize, _: &mut Vec<u8>) -> Result<(), StageError> {
        Err(StageError::new("an observer does not decode"))
    }

    fn observe(&mut self, direction: Direction, message: &[u8]) {
        let mut seen = self.seen.lock().unwrap();
        seen.push((self.name, direction, message.to_vec()));
    }
}

/// Puts a byte behind a message.
#[derive(Clone)]
struct Append(u8);

impl Stage for Append {
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        output.extend_from_slice(message);
        output.push(self.0);
        Ok(())
    }

    fn decode(
        &mut self,
        encoded: &[u8],
        _limit: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        match encoded.split_last() {
            Some((last, message)) if *last == self.0 => {
                output.extend_from_slice(message);
                Ok(())
            }
            _ => Err(StageError::new("the byte is missing")),
        }
    }
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

proptest! {
    /// For every arrangement of observers and stages that change messages.
    #[test]
    fn observers_see_a_message_as_it_is_where_they_stand(
        observes in prop::collection::vec(any::<bool>(), 0..=NAMES.len()),
        message in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let seen = Seen::default();
        let mut builder = Pipeline::builder();
        let mut current = message.clone();
        let mut expected = Vec::new();
        for (index, observes) in observes.into_iter().enumerate() {
            let name = NAMES[index];
            if observes {
                let watch = Watch { name, seen: Arc::clone(&seen) };
                builder = builder.offer(CustomStage::new(name, watch).observes());
                expected.push((name, current.clone()));
            } else {
                let append = Append(index as u8);
                builder = builder.offer(CustomStage::new(name, append).overhead(1));
                current.push(index as u8);
            }
        }
        let pipeline = builder.build().unwrap();
        let mut link = link(&pipeline);
        prop_assert_eq!(pass(&mut link, &message), (current, message));
        let sent = expected.iter().map(|(name, bytes)| (*name, Direction::Sent, bytes.clone()));
        let received =
            expected.iter().rev().map(|(name, bytes)| (*name, Direction::Received, bytes.clone()));
        let expected: Vec<_> = sent.chain(received).collect();
        prop_assert_eq!(&*seen.lock().unwrap(), &expected);
        link.flush_stats();
        for stats in pipeline.stats() {
            prop_assert_eq!((stats.sent.messages, stats.received.messages), (1, 1));
        }
    }
}

#[test]
fn observers_are_not_offered_to_the_peer() {
    let pipeline = Pipeline::builder()
        .offer(MessageLog::new(Level::INFO))
        .offer(HmacSha256::new(Secret::random().unwrap()))
        .offer(CustomStage::new("append", Append(1)).observes())
        .build()
        .unwrap();
    assert_eq!(pipeline.offered(), ["hmac-sha256"]);
}
