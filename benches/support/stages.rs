//! Stages of pipelines, and what they are given.

use network_system::internal::StageLink;
use network_system::pipeline::{Encryption, Keys, Secret, StageDefinition};

/// Both ends of a link with this stage.
pub(crate) fn pair(stage: impl Into<StageDefinition>) -> (StageLink, StageLink) {
    StageLink::pair(stage).unwrap()
}

/// Both ends of a link with this cipher.
pub(crate) fn cipher(stage: fn(&Keys) -> Encryption) -> (StageLink, StageLink) {
    pair(stage(&Keys::new(1, Secret::new([7; 32]).unwrap())))
}

/// Rows of JSON with some variety, exactly so many bytes of them.
pub(crate) fn json(size: usize) -> Vec<u8> {
    let mut text = String::with_capacity(size + 200);
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    for index in 0.. {
        if text.len() >= size {
            break;
        }
        let (value, name) = (random() % 100_000, random() % 500);
        text += &format!(
            "{{\"id\":{index},\"sensor\":\"station-{name:03}\",\"value\":{}.{:02},\"unit\":\"°C\",\"ok\":{}}},",
            value / 100,
            value % 100,
            value % 7 != 0
        );
    }
    text.into_bytes()[..size].to_vec()
}
