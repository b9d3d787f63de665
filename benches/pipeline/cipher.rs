//! Encryption against AWS-LC.

use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use network_system::pipeline::{Encryption, Keys};

use super::Case;
use super::ratio::{Batch, Pair};
use super::stages;

/// Bytes of the id before the ciphertext, and of the tag behind it.
const ID: usize = 4;
const TAG: usize = 16;

/// Names an algorithm, both ways to get it.
struct Cipher {
    name: &'static str,
    stage: fn(&Keys) -> Encryption,
    library: &'static Algorithm,
}

const CIPHERS: [Cipher; 2] = [
    Cipher {
        name: "aes-256-gcm",
        stage: Encryption::aes_256_gcm,
        library: &AES_256_GCM,
    },
    Cipher {
        name: "chacha20-poly1305",
        stage: Encryption::chacha20_poly1305,
        library: &CHACHA20_POLY1305,
    },
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for cipher in &CIPHERS {
        for size in [64, 1_024, 16_384] {
            // What stays in the cache of a core.
            let messages = (128 * 1024 / size).min(256);
            let pair = |own, other| Pair {
                peer: "AWS-LC",
                messages: messages as u64,
                own,
                other,
            };
            cases.push((
                format!("encrypt/{}/{size}", cipher.name),
                pair(encode(cipher, size, messages), seal(cipher, size, messages)),
            ));
            cases.push((
                format!("decrypt/{}/{size}", cipher.name),
                pair(decode(cipher, size, messages), open(cipher, size, messages)),
            ));
        }
    }
    cases
}

fn encode(cipher: &Cipher, size: usize, messages: usize) -> Batch {
    let (mut client, _) = stages::cipher(cipher.stage);
    let (message, mut output) = (vec![b'x'; size], Vec::new());
    Box::new(move || {
        let began = Instant::now();
        for _ in 0..messages {
            output.clear();
            client.encode(black_box(&message), &mut output).unwrap();
            black_box(&output);
        }
        began.elapsed()
    })
}

fn decode(cipher: &Cipher, size: usize, messages: usize) -> Batch {
    let (mut client, mut server) = stages::cipher(cipher.stage);
    let (message, mut output) = (vec![b'x'; size], Vec::new());
    let mut frames = vec![Vec::new(); messages];
    Box::new(move || {
        for frame in &mut frames {
            frame.clear();
            client.encode(&message, frame).unwrap();
        }
        let began = Instant::now();
        for frame in &frames {
            output.clear();
            server.decode(black_box(frame), size, &mut output).unwrap();
            black_box(&output);
        }
        let time = began.elapsed();
        assert_eq!(output, message);
        time
    })
}

/// The library's key with a count of its own.
struct Direct {
    key: LessSafeKey,
    count: u64,
}

impl Direct {
    fn new(cipher: &Cipher) -> Self {
        let key = UnboundKey::new(cipher.library, &[7; 32]).unwrap();
        Direct {
            key: LessSafeKey::new(key),
            count: 0,
        }
    }

    fn next(&mut self) -> (Nonce, Aad<[u8; 8]>) {
        let count = self.count.to_be_bytes();
        let mut nonce = [0; NONCE_LEN];
        nonce[4..].copy_from_slice(&count);
        self.count += 1;
        (Nonce::assume_unique_for_key(nonce), Aad::from(count))
    }

    /// The faster of two ways; the other is to copy and to encrypt in place.
    fn seal(&mut self, message: &[u8], output: &mut Vec<u8>) {
        output.resize(ID + message.len() + TAG, 0);
        let (ciphertext, tag) = output[ID..].split_at_mut(message.len());
        let (nonce, aad) = self.next();
        self.key
            .seal_out_of_place_scatter(nonce, aad, message, ciphertext, &[], tag)
            .unwrap();
    }

    /// The faster of two ways; the other is to copy and to decrypt in place.
    fn open(&mut self, frame: &[u8], output: &mut Vec<u8>) {
        let (ciphertext, tag) = frame[ID..].split_at(frame.len() - ID - TAG);
        output.resize(ciphertext.len(), 0);
        let (nonce, aad) = self.next();
        self.key
            .open_separate_gather(nonce, aad, ciphertext, tag, output)
            .unwrap();
    }
}

fn seal(cipher: &Cipher, size: usize, messages: usize) -> Batch {
    let mut client = Direct::new(cipher);
    let (message, mut output) = (vec![b'x'; size], Vec::new());
    Box::new(move || {
        let began = Instant::now();
        for _ in 0..messages {
            output.clear();
            client.seal(black_box(&message), &mut output);
            black_box(&output);
        }
        began.elapsed()
    })
}

fn open(cipher: &Cipher, size: usize, messages: usize) -> Batch {
    let (mut client, mut server) = (Direct::new(cipher), Direct::new(cipher));
    let (message, mut output) = (vec![b'x'; size], Vec::new());
    let mut frames = vec![Vec::new(); messages];
    Box::new(move || {
        for frame in &mut frames {
            frame.clear();
            client.seal(&message, frame);
        }
        let began = Instant::now();
        for frame in &frames {
            output.clear();
            server.open(black_box(frame), &mut output);
            black_box(&output);
        }
        let time = began.elapsed();
        assert_eq!(output, message);
        time
    })
}
