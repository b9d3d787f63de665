//! Every stage in bytes that come from anybody.

use network_system::internal::StageLink;
use network_system::pipeline::{
    Compression, Encryption, HmacSha256, Keys, Secret, StageDefinition,
};

use crate::input::Input;

/// What is in the output before: it belongs to others.
const BEFORE: &[u8] = b"before";

/// The input is a stage, a limit, whether a message is changed on its way, and bytes. Promises:
///
/// - decoding any bytes gives an error or a message within the limit, allocates no more than that allows, and
///   leaves what is in the output before;
/// - a message that was encoded comes back, whatever was decoded before it;
/// - with encryption or authentication, a changed one does not.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let which = input.byte();
    let limit = [1, 100, 5_000, 200_000][usize::from(input.byte()) % 4];
    let change = input.pair();
    let times = [1, 1, 20, 300][usize::from(input.byte()) % 4];
    let bytes = input.rest();
    // A peer that was not authenticated says anything.
    let (mut client, mut server) = pair(which);
    let _ = decode(&mut server, bytes, limit);
    // Behind a right beginning.
    if is_compression(which) {
        let said = u32::from(change) * 7;
        let _ = decode(
            &mut server,
            &[&[1], &said.to_be_bytes()[..], bytes].concat(),
            limit,
        );
    }
    let message = bytes.repeat(times);
    let message = &message[..message.len().min(limit)];
    let mut encoded = BEFORE.to_vec();
    client.encode(message, &mut encoded).expect("it fits");
    let mut encoded = encoded.split_off(BEFORE.len());
    let index = usize::from(change) % encoded.len();
    let bit = 1_u8 << (change >> 13);
    encoded[index] ^= bit;
    let changed = decode(&mut server, &encoded, limit);
    assert!(is_compression(which) || changed.is_none());
    encoded[index] ^= bit;
    let decoded = decode(&mut server, &encoded, limit);
    assert_eq!(decoded.as_deref(), Some(message));
}

fn is_compression(which: u8) -> bool {
    which % 7 < 4
}

fn pair(which: u8) -> (StageLink, StageLink) {
    let secret = || Secret::new([7; 32]).expect("it is long enough");
    let stage: StageDefinition = match which % 7 {
        0 => Compression::lz4().threshold(0).into(),
        1 => Compression::zstd().threshold(0).into(),
        2 => Compression::gzip().threshold(0).into(),
        3 => Compression::deflate().threshold(0).into(),
        4 => HmacSha256::new(secret()).into(),
        5 => Encryption::aes_256_gcm(&Keys::new(1, secret())).into(),
        _ => Encryption::chacha20_poly1305(&Keys::new(1, secret())).into(),
    };
    StageLink::pair(stage).expect("it can be used")
}

fn decode(link: &mut StageLink, encoded: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut output = BEFORE.to_vec();
    let decoded = link.decode(encoded, limit, &mut output);
    // Twice, because a vector doubles when it grows.
    assert!(output.capacity() <= 2 * (BEFORE.len() + limit.max(encoded.len())));
    assert!(output.starts_with(BEFORE));
    let message = output.split_off(BEFORE.len());
    assert!(message.len() <= limit);
    decoded.is_ok().then_some(message)
}
