//! Ciphertext that the test makes by itself, from the protocol's words: what a peer in another language does.

use std::time::Duration;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf};
use network_system::pipeline::{Compression, Encryption};
use network_system::{Message, RequestError, Session};

use super::{hello, keys, requiring, unhex};
use crate::support::{Frame, Net, Over, Peer, kind, serve, within};

over_all! {
    requests:
        ciphertext_is_as_the_protocol_says_in_both_directions,
        chacha20_is_as_the_protocol_says_too,
        requests_and_answers_are_encrypted_behind_their_id,
        failures_control_and_pings_are_not_encrypted,
        application_types_are_encrypted_under_their_number,
        compression_comes_before_encryption;
}

pub const CLIENT_NONCE: [u8; 16] = *b"client-nonce-16b";
pub const KEY_ID: u32 = 0xA1B2_C3D4;

struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

/// One direction of a link, as section 6 of the protocol describes it.
pub struct Direction {
    key: LessSafeKey,
    key_id: u32,
    transcript: [u8; 32],
    count: u64,
}

impl Direction {
    fn new(stage: &str, direction: &str, key_id: u32, secret: &[u8], talk: &Talk) -> Self {
        let salt = hkdf::Salt::new(
            hkdf::HKDF_SHA256,
            &[CLIENT_NONCE.as_slice(), &talk.server_nonce].concat(),
        );
        let info = format!("msgi1 {stage} {direction}");
        let mut key = [0; 32];
        let pseudorandom = salt.extract(secret);
        let info = [info.as_bytes()];
        pseudorandom
            .expand(&info, Length)
            .unwrap()
            .fill(&mut key)
            .unwrap();
        let algorithm = match stage {
            "aes-256-gcm" => &aead::AES_256_GCM,
            _ => &aead::CHACHA20_POLY1305,
        };
        let sum = digest::digest(
            &digest::SHA256,
            &[talk.hello.as_bytes(), &talk.welcome].concat(),
        );
        Direction {
            key: LessSafeKey::new(UnboundKey::new(algorithm, &key).unwrap()),
            key_id,
            transcript: sum.as_ref().try_into().unwrap(),
            count: 0,
        }
    }

    fn nonce_and_aad(&mut self) -> (Nonce, Vec<u8>) {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.count.to_be_bytes());
        let aad = match self.count {
            0 => self.transcript.to_vec(),
            count => count.to_be_bytes().to_vec(),
        };
        self.count += 1;
        (Nonce::assume_unique_for_key(nonce), aad)
    }

    pub fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        let (nonce, aad) = self.nonce_and_aad();
        let mut sealed = message.to_vec();
        let key = &self.key;
        key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed)
            .unwrap();
        [&self.key_id.to_be_bytes()[..], &sealed].concat()
    }

    pub fn open(&mut self, encoded: &[u8]) -> Vec<u8> {
        let (id, sealed) = encoded.split_at(4);
        assert_eq!(id, self.key_id.to_be_bytes());
        let (nonce, aad) = self.nonce_and_aad();
        let mut sealed = sealed.to_vec();
        let key = &self.key;
        key.open_in_place(nonce, Aad::from(aad), &mut sealed)
            .unwrap()
            .to_vec()
    }
}

/// What was said before the first message.
struct Talk {
    hello: String,
    welcome: Vec<u8>,
    server_nonce: Vec<u8>,
}

/// A peer whose messages are encrypted by the test.
pub struct Cipher {
    pub peer: Peer,
    pub send: Direction,
    pub receive: Direction,
}

impl Cipher {
    pub async fn connect(net: &Net, stages: &[&str], stage: &str) -> Cipher {
        let mut peer = net.peer().await;
        let hello = hello(stages, Some(CLIENT_NONCE));
        peer.control(hello.clone()).await;
        let welcome = peer.expect(kind::CONTROL).await;
        let json = welcome.json();
        assert_eq!(json["pipeline"], serde_json::json!(stages));
        let talk = Talk {
            hello,
            server_nonce: unhex(json["nonce"].as_str().unwrap()),
            welcome: welcome.payload.to_vec(),
        };
        Cipher {
            send: Direction::new(stage, "c2s", KEY_ID, &[5; 32], &talk),
            receive: Direction::new(stage, "s2c", KEY_ID, &[5; 32], &talk),
            peer,
        }
    }

    pub async fn data(&mut self, message: &[u8]) {
        let sealed = self.send.seal(message);
        self.peer.data(sealed).await;
    }

    pub async fn expect_data(&mut self) -> Vec<u8> {
        let sealed = self.peer.expect_data().await;
        self.receive.open(&sealed)
    }
}

/// A server that echoes what it can decrypt, and says in an answer what it was asked.
pub async fn encrypted(
    over: Over,
    compressed: bool,
    stage: impl Fn(&network_system::pipeline::Keys) -> Encryption,
) -> Net {
    let mut stages = Vec::new();
    if compressed {
        stages.push(Compression::lz4().threshold(16).into());
    }
    stages.push(stage(&keys(KEY_ID, 5)).into());
    serve(over, |builder| {
        builder
            .pipeline(requiring(stages))
            .on_message(|session: Session, message: Message| async move {
                let _ = session.send(message).await;
            })
            .on_request(|_: Session, message: Message| async move {
                match message.payload() {
                    b"fail" => Err(RequestError::failed("as asked")),
                    _ => Ok(message),
                }
            })
    })
    .await
}

async fn ciphertext_is_as_the_protocol_says_in_both_directions(over: Over) {
    let net = encrypted(over, false, Encryption::aes_256_gcm).await;
    let mut peer = Cipher::connect(&net, &["aes-256-gcm"], "aes-256-gcm").await;
    for round in 0..40_usize {
        let message = vec![round as u8; round * 10];
        peer.data(&message).await;
        assert_eq!(peer.expect_data().await, message);
    }
    // A second link has keys of its own.
    let mut other = Cipher::connect(&net, &["aes-256-gcm"], "aes-256-gcm").await;
    other.data(b"other").await;
    assert_eq!(other.expect_data().await, b"other");
    net.stop().await;
}

async fn chacha20_is_as_the_protocol_says_too(over: Over) {
    let net = encrypted(over, false, Encryption::chacha20_poly1305).await;
    let mut peer = Cipher::connect(&net, &["chacha20-poly1305"], "chacha20-poly1305").await;
    for message in ["", "one", "two"] {
        peer.data(message.as_bytes()).await;
        assert_eq!(peer.expect_data().await, message.as_bytes());
    }
    net.stop().await;
}

async fn requests_and_answers_are_encrypted_behind_their_id(over: Over) {
    let net = encrypted(over, false, Encryption::aes_256_gcm).await;
    let mut peer = Cipher::connect(&net, &["aes-256-gcm"], "aes-256-gcm").await;
    for id in [7, 1, u64::MAX] {
        let question = peer.send.seal(b"question");
        peer.peer.request(id, question).await;
        let answer = peer.peer.expect(kind::RESPONSE).await;
        assert_eq!(answer.id, id);
        assert_eq!(peer.receive.open(&answer.payload), b"question");
    }
    // The other way round.
    let session = net.server.sessions().remove(0);
    let asked = tokio::spawn(async move { session.request("who?", Duration::from_secs(20)).await });
    let question = peer.peer.expect(kind::REQUEST).await;
    assert_eq!(peer.receive.open(&question.payload), b"who?");
    let answer = peer.send.seal(b"me");
    peer.peer
        .send(Frame::with_id(kind::RESPONSE, question.id, answer))
        .await;
    assert_eq!(
        within("an answer", asked).await.unwrap().unwrap().payload(),
        b"me"
    );
    net.stop().await;
}

async fn failures_control_and_pings_are_not_encrypted(over: Over) {
    let net = encrypted(over, false, Encryption::aes_256_gcm).await;
    let mut peer = Cipher::connect(&net, &["aes-256-gcm"], "aes-256-gcm").await;
    peer.peer.ping_pong(b"plain").await;
    peer.data(b"one").await;
    assert_eq!(peer.expect_data().await, b"one");
    peer.peer.ping_pong(b"between").await;
    let question = peer.send.seal(b"fail");
    peer.peer.request(3, question).await;
    let failure = peer.peer.expect(kind::FAILURE).await;
    assert_eq!(
        (failure.id, failure.code_and_text().1.as_str()),
        (3, "as asked")
    );
    peer.peer.control(r#"{"op":"join","group":"g"}"#).await;
    assert_eq!(
        peer.peer.expect(kind::CONTROL).await.json()["op"],
        "refused"
    );
    // A failure of this side is read as it is, too, and none of these was counted.
    let session = net.server.sessions().remove(0);
    let asked = tokio::spawn(async move { session.request("who?", Duration::from_secs(20)).await });
    let question = peer.peer.expect(kind::REQUEST).await;
    assert_eq!(peer.receive.open(&question.payload), b"who?");
    let failure = [&(-645_i32).to_be_bytes()[..], b"no idea"].concat();
    peer.peer
        .send(Frame::with_id(kind::FAILURE, question.id, failure))
        .await;
    let error = within("an answer", asked).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("no idea"), "{error}");
    peer.data(b"two").await;
    assert_eq!(peer.expect_data().await, b"two");
    peer.peer.leave().await;
    net.stop().await;
}

async fn application_types_are_encrypted_under_their_number(over: Over) {
    let net = encrypted(over, false, Encryption::aes_256_gcm).await;
    let mut peer = Cipher::connect(&net, &["aes-256-gcm"], "aes-256-gcm").await;
    for number in [0x8000, 0xFFFF] {
        let sealed = peer.send.seal(b"typed");
        peer.peer.send(Frame::new(number, sealed)).await;
        let echo = peer.peer.expect(number).await;
        assert_eq!(peer.receive.open(&echo.payload), b"typed");
    }
    let session = net.server.sessions().remove(0);
    let typed = Message::application(0x9000, "more").unwrap();
    session.send(typed).await.unwrap();
    let more = peer.peer.expect(0x9000).await;
    assert_eq!(peer.receive.open(&more.payload), b"more");
    net.stop().await;
}

async fn compression_comes_before_encryption(over: Over) {
    let net = encrypted(over, true, Encryption::aes_256_gcm).await;
    let mut peer = Cipher::connect(&net, &["lz4", "aes-256-gcm"], "aes-256-gcm").await;
    let long = b"again and ".repeat(100);
    let mut compressed = vec![1];
    compressed.extend((long.len() as u32).to_be_bytes());
    compressed.extend(lz4_flex::block::compress(&long));
    peer.data(&compressed).await;
    let echo = peer.expect_data().await;
    assert_eq!(echo[..5], compressed[..5]);
    assert_eq!(
        lz4_flex::block::decompress(&echo[5..], long.len()).unwrap(),
        long
    );
    peer.data(b"\0short").await;
    assert_eq!(peer.expect_data().await, b"\0short");
    net.stop().await;
}
