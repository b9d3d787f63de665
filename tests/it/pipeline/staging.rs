//! Messages between link and handler: in one read with what agrees on their stages, behind a handler that
//! is not done, before the end.

use std::sync::Arc;
use std::time::Duration;

use network_system::pipeline::{
    Compression, CustomStage, Encryption, Pipeline, Stage, StageDefinition, StageError,
};
use network_system::{Client, ClosedBy, ErrorCode, Message, MessageStream, Session, UdpOptions};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{Numbered, hello, keys, numbered_as, requiring};
use crate::support::{
    Event, Events, Frame, Net, Over, Peer, echo, kind, log, number_of, numbered, record, serve,
    within,
};

over_all! {
    requests:
        what_comes_behind_welcome_in_one_read_goes_through_the_stages;
    errors:
        what_comes_before_welcome_ends_the_attempt;
    reliability:
        what_waits_for_a_handler_is_handled_before_a_goodbye,
        what_waits_while_reading_is_paused_is_handled_before_a_goodbye,
        what_waits_for_a_handler_is_handled_before_an_error;
    stream:
        what_waits_for_a_handler_is_handled_before_the_end_of_the_stream;
}

/// A message that lz4 makes very short.
fn long(number: u64) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(100_000, number as u8);
    message
}

fn compressed(message: &[u8]) -> Vec<u8> {
    let mut encoded = vec![1];
    encoded.extend((message.len() as u32).to_be_bytes());
    encoded.extend(lz4_flex::block::compress(message));
    encoded
}

/// A server whose message handler waits for the gate, once for each message.
async fn gated(over: Over) -> (Net, Events, Arc<Semaphore>) {
    let (log, events) = log();
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let net = serve(over, |builder| {
        let builder = record(builder, &log).pipeline(requiring(vec![Compression::lz4().into()]));
        builder.on_message(move |_, message| {
            let (log, gate) = (log.clone(), opened.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                let _ = log.send(Event::Message(message));
            }
        })
    });
    (net.await, events, gate)
}

async fn greeted(net: &Net) -> (Peer, Session) {
    let mut peer = net.peer().await;
    peer.control(hello(&["lz4"], None)).await;
    peer.expect(kind::CONTROL).await;
    let session = net.server.sessions().remove(0);
    (peer, session)
}

const MANY: u64 = 60;

/// Many messages, each much longer than it is on the wire.
fn many() -> Vec<Frame> {
    let numbers = 0..MANY;
    numbers
        .map(|number| Frame::new(kind::DATA, compressed(&long(number))))
        .collect()
}

async fn expect_many(events: &mut Events) {
    for number in 0..MANY {
        assert_eq!(events.message().await.payload(), long(number));
    }
}

async fn what_waits_for_a_handler_is_handled_before_a_goodbye(over: Over) {
    let (net, mut events, gate) = gated(over).await;
    let (mut peer, _) = greeted(&net).await;
    let mut frames = many();
    frames.push(Frame::new(kind::DISCONNECT, "enough"));
    peer.send_together(frames).await;
    crate::support::settle().await;
    gate.add_permits(MANY as usize);
    expect_many(&mut events).await;
    peer.expect(kind::DISCONNECT).await;
    drop(peer);
    let reason = events.disconnected().await;
    assert_eq!(
        (reason.closed_by(), reason.text()),
        (ClosedBy::Remote, "enough")
    );
    net.stop().await;
}

async fn what_waits_while_reading_is_paused_is_handled_before_a_goodbye(over: Over) {
    let (net, mut events, gate) = gated(over).await;
    let (mut peer, session) = greeted(&net).await;
    let mut frames = many();
    let rest = frames.split_off(MANY as usize / 2);
    peer.send_together(frames).await;
    gate.add_permits(3);
    for number in 0..3 {
        assert_eq!(events.message().await.payload(), long(number));
    }
    session.pause_reading();
    peer.send_together(rest).await;
    peer.send(Frame::new(kind::DISCONNECT, "enough")).await;
    gate.add_permits(MANY as usize);
    crate::support::settle().await;
    session.resume_reading();
    for number in 3..MANY {
        assert_eq!(events.message().await.payload(), long(number));
    }
    peer.expect(kind::DISCONNECT).await;
    drop(peer);
    assert_eq!(events.disconnected().await.text(), "enough");
    net.stop().await;
}

async fn what_waits_for_a_handler_is_handled_before_the_end_of_the_stream(over: Over) {
    let (net, mut events, gate) = gated(over).await;
    let (mut peer, _) = greeted(&net).await;
    peer.send_together(many()).await;
    peer.shutdown().await;
    crate::support::settle().await;
    gate.add_permits(MANY as usize);
    expect_many(&mut events).await;
    let reason = events.disconnected().await;
    assert_eq!(reason.code(), None, "{reason}");
    net.stop().await;
}

async fn what_waits_for_a_handler_is_handled_before_an_error(over: Over) {
    let (net, mut events, gate) = gated(over).await;
    let (mut peer, _) = greeted(&net).await;
    let mut frames = many();
    frames.push(Frame::new(kind::DATA, "neither 0 nor 1"));
    frames.push(Frame::new(kind::DATA, compressed(b"too late")));
    peer.send_together(frames).await;
    crate::support::settle().await;
    gate.add_permits(1_000);
    expect_many(&mut events).await;
    assert_eq!(peer.expect_error_and_end().await.0, -646);
    drop(peer);
    assert_eq!(
        events.disconnected().await.code(),
        Some(ErrorCode::PipelineFailed)
    );
    net.stop().await;
}

async fn what_comes_behind_welcome_in_one_read_goes_through_the_stages(over: Over) {
    // The server greets and writes at once, so that all of it may be in one read.
    let stages = || {
        requiring(vec![
            Numbered::stage(7).into(),
            Encryption::aes_256_gcm(&keys(1, 1)).into(),
        ])
    };
    let net = serve(over, |builder| {
        echo(builder)
            .pipeline(stages())
            .on_connect(|session: Session| async move {
                for number in 0..20 {
                    session.send(numbered(number, 100)).await.unwrap();
                }
            })
    })
    .await;
    for _ in 0..5 {
        let client = over.client(&net.url).pipeline(stages()).build().unwrap();
        let mut stream = client.messages().unwrap();
        within("connect", client.connect()).await.unwrap();
        for number in 0..20 {
            let message = within("a message", stream.next()).await.unwrap();
            assert_eq!(number_of(message.payload()), number);
        }
        within("stop", client.stop()).await;
    }
    net.stop().await;
}

/// A server that the test speaks for.
async fn fake() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Connects a client to a server that answers hello with these frames, in one write.
async fn answered(
    frames: Vec<Frame>,
    pipeline: Pipeline,
) -> (Result<(), ErrorCode>, Client, MessageStream, Peer) {
    let (listener, url) = fake().await;
    let client = Client::builder()
        .endpoint(url)
        .pipeline(pipeline)
        .build()
        .unwrap();
    let stream = client.messages().unwrap();
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Peer::of(stream);
        let hello = peer.expect(kind::CONTROL).await.json();
        assert_eq!(hello["op"], "hello");
        peer.send_together(frames).await;
        peer
    };
    let (connected, peer) = tokio::join!(within("an answer", client.connect()), serving);
    (
        connected.map_err(|error| error.code()),
        client,
        stream,
        peer,
    )
}

/// The same with an answer that ends the attempt: as what, for the client and for its peer.
async fn refused(frames: Vec<Frame>, pipeline: Pipeline) -> (ErrorCode, i32) {
    let (listener, url) = fake().await;
    let client = Client::builder()
        .endpoint(url)
        .pipeline(pipeline)
        .build()
        .unwrap();
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Peer::of(stream);
        peer.expect(kind::CONTROL).await;
        peer.send_together(frames).await;
        loop {
            let frame = peer.receive().await.expect("the client says why");
            if frame.kind == kind::ERROR {
                return frame.code_and_text().0;
            }
        }
    };
    let (connected, told) = tokio::join!(within("an answer", client.connect()), serving);
    within("stop", client.stop()).await;
    (connected.unwrap_err().code(), told)
}

fn welcome(stages: &str) -> Frame {
    let nonce = "00112233445566778899aabbccddeeff";
    let json = format!(r#"{{"op":"welcome","version":1,"nonce":"{nonce}","pipeline":{stages}}}"#);
    Frame::new(kind::CONTROL, json)
}

async fn what_comes_before_welcome_ends_the_attempt(over: Over) {
    if over != Over::Tcp {
        return;
    }
    let data = || Frame::new(kind::DATA, numbered_as(0, 7, b"early"));
    let ping = || Frame::new(kind::PING, "x");
    for frames in [
        vec![data(), welcome(r#"["numbered"]"#)],
        vec![ping(), data(), welcome(r#"["numbered"]"#)],
        vec![
            Frame::with_id(kind::REQUEST, 1, "x"),
            welcome(r#"["numbered"]"#),
        ],
    ] {
        let stages = requiring(vec![Numbered::stage(7).into()]);
        let refused = refused(frames, stages).await;
        assert_eq!(refused.0, ErrorCode::InvalidFrame);
    }
}

#[tokio::test]
async fn messages_in_one_read_with_welcome_are_those_of_its_stages() {
    let mut frames = vec![Frame::new(kind::PING, "first"), welcome(r#"["numbered"]"#)];
    frames.extend(
        (0..50).map(|number| Frame::new(kind::DATA, numbered_as(number, 7, &numbered(number, 50)))),
    );
    let stages = requiring(vec![Numbered::stage(7).into()]);
    let (result, client, mut stream, mut peer) = answered(frames, stages).await;
    assert_eq!(result, Ok(()));
    for number in 0..50 {
        let message = within("a message", stream.next()).await.unwrap();
        assert_eq!(number_of(message.payload()), number);
    }
    assert_eq!(peer.expect(kind::PONG).await.payload, "first");
    client.send("hi").await.unwrap();
    assert_eq!(peer.expect_data().await, numbered_as(0, 7, b"hi"));
    drop(peer);
    within("stop", client.stop()).await;
}

#[tokio::test]
async fn a_welcome_that_is_not_what_was_offered_ends_the_attempt() {
    let aes = |ring| -> StageDefinition { Encryption::aes_256_gcm(ring).into() };
    let ring = keys(1, 1);
    let offering = || {
        Pipeline::builder()
            .offer(Compression::lz4())
            .offer(Compression::zstd())
            .offer(aes(&ring))
            .offer(Encryption::chacha20_poly1305(&ring))
            .build()
            .unwrap()
    };
    let no_nonce = Frame::new(
        kind::CONTROL,
        r#"{"op":"welcome","version":1,"pipeline":["aes-256-gcm"]}"#,
    );
    for (answer, pipeline) in [
        (welcome("[]"), requiring(vec![Compression::lz4().into()])),
        (
            welcome(r#"["lz4"]"#),
            requiring(vec![Compression::lz4().into(), aes(&ring)]),
        ),
        (welcome(r#"["gzip"]"#), offering()),
        (welcome(r#"["lz4","lz4"]"#), offering()),
        (welcome(r#"["lz4","zstd"]"#), offering()),
        (
            welcome(r#"["aes-256-gcm","chacha20-poly1305"]"#),
            offering(),
        ),
        (no_nonce, offering()),
    ] {
        let text = String::from_utf8(answer.payload.to_vec()).unwrap();
        let refused = refused(vec![answer], pipeline).await;
        assert_eq!(refused, (ErrorCode::PipelineFailed, -646), "{text}");
    }
    for chosen in ["[]", r#"["zstd"]"#, r#"["lz4","chacha20-poly1305"]"#] {
        let (result, client, _, peer) = answered(vec![welcome(chosen)], offering()).await;
        assert_eq!(result, Ok(()), "{chosen}");
        drop(peer);
        within("stop", client.stop()).await;
    }
}

#[tokio::test]
async fn the_longest_message_of_a_datagram_leaves_room_for_its_stages() {
    let stages = || {
        requiring(vec![
            Compression::lz4().into(),
            Encryption::aes_256_gcm(&keys(1, 1)).into(),
        ])
    };
    let mut options = UdpOptions::default();
    options.datagram_size = 1_000;
    let server = echo(Over::Udp.server())
        .udp(options.clone())
        .pipeline(stages())
        .build()
        .unwrap();
    server.start().await.unwrap();
    let client = Over::Udp
        .client(&server.urls()[0])
        .udp(options)
        .pipeline(stages())
        .build()
        .unwrap();
    let mut stream = client.messages().unwrap();
    within("connect", client.connect()).await.unwrap();
    // Head and correlation id, and what the stages add.
    let longest = 1_000 - 18 - 1 - 20;
    let noise: Vec<u8> = (0..longest)
        .map(|at: usize| ((at * at) >> 3) as u8)
        .collect();
    client.send(noise.clone()).await.unwrap();
    assert_eq!(
        within("an echo", stream.next()).await.unwrap().payload(),
        noise
    );
    let longer = client.send(vec![0; longest + 1]).await.unwrap_err();
    assert_eq!(longer.code(), ErrorCode::MessageTooLarge);
    within("stop", client.stop()).await;
    within("stop", server.stop()).await.unwrap();
}

/// Puts something before each message.
#[derive(Clone)]
struct Prefix(&'static [u8]);

impl Stage for Prefix {
    fn encode(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), StageError> {
        // As if it were its own.
        output.clear();
        output.extend_from_slice(self.0);
        output.extend_from_slice(message);
        Ok(())
    }

    fn decode(&mut self, encoded: &[u8], _: usize, output: &mut Vec<u8>) -> Result<(), StageError> {
        output.clear();
        let message = encoded.strip_prefix(self.0);
        output.extend_from_slice(message.ok_or_else(|| StageError::new("no prefix"))?);
        Ok(())
    }
}

#[tokio::test]
async fn a_stage_that_takes_the_output_for_its_own_harms_no_other_message() {
    let stage = || CustomStage::new("prefix", Prefix(b"> ")).overhead(2);
    let net = serve(Over::Tcp, |builder| {
        echo(builder).pipeline(requiring(vec![stage().into()]))
    })
    .await;
    let mut peer = net.peer().await;
    peer.control(hello(&["prefix"], None)).await;
    peer.expect(kind::CONTROL).await;
    let frames = ["> one", "> two", "> three"].map(|text| Frame::new(kind::DATA, text));
    peer.send_together(frames.to_vec()).await;
    for expected in ["> one", "> two", "> three"] {
        assert_eq!(peer.expect_data().await, expected);
    }
    net.stop().await;
}

#[tokio::test]
async fn a_stage_cannot_make_two_lines_of_one() {
    let stages = |prefix| {
        let stage = CustomStage::new("prefix", Prefix(prefix))
            .overhead(2)
            .keeps_text();
        Pipeline::builder()
            .require(stage)
            .without_hello()
            .build()
            .unwrap()
    };
    for (prefix, works) in [(&b"> "[..], true), (b">\n", false)] {
        let server =
            echo(network_system::Server::builder().listen("tcp://127.0.0.1:0?codec=lines"));
        let server = server.pipeline(stages(prefix)).build().unwrap();
        server.start().await.unwrap();
        let client = Client::builder()
            .endpoint(&server.urls()[0])
            .pipeline(stages(prefix));
        let client = client.build().unwrap();
        let mut stream = client.messages().unwrap();
        within("connect", client.connect()).await.unwrap();
        client.send("line").await.unwrap();
        if works {
            let message: Message = within("an echo", stream.next()).await.unwrap();
            assert_eq!(message.as_text(), Some("line"));
        } else {
            let reason = within("the end", client.session().unwrap().closed()).await;
            assert_eq!(reason.code(), Some(ErrorCode::PipelineFailed));
        }
        within("stop", client.stop()).await;
        within("stop", server.stop_within(Duration::ZERO))
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn idle_sessions_with_stages_live_on_heartbeats() {
    let stages = || requiring(vec![Numbered::stage(7).into()]);
    let server = echo(Over::Mem.server().pipeline(stages())).build().unwrap();
    server.start().await.unwrap();
    let client = Over::Mem
        .client(&server.urls()[0])
        .pipeline(stages())
        .build()
        .unwrap();
    let mut stream = client.messages().unwrap();
    within("connect", client.connect()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let session = server.sessions().remove(0);
    assert!(session.stats().round_trip.is_some());
    client.send("hi").await.unwrap();
    assert_eq!(
        within("an echo", stream.next()).await.unwrap().payload(),
        b"hi"
    );
    within("stop", client.stop()).await;
    within("stop", server.stop()).await.unwrap();
}
