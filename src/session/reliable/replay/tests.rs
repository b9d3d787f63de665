use proptest::prelude::*;

use super::*;
use crate::codec::Framing;

/// What a frame is, whatever it was kept as.
type Flat = (u16, u64, Vec<u8>);

fn flat(replay: &Replay, first: u64) -> Vec<Flat> {
    let mut frames = Vec::new();
    replay.visit_from(first, |kept| {
        frames.push(match kept {
            Kept::Copied(frame_type, id, payload) => (frame_type.0, id, payload.to_vec()),
            Kept::Whole(frame) => (frame.frame_type.0, frame.id, frame.payload.to_vec()),
        });
        true
    });
    frames
}

#[test]
fn what_is_collected_as_bytes_is_kept_without_the_frames_of_the_protocol() {
    let mut replay = Replay::default();
    let mut output = Output::default();
    let large = Bytes::from(vec![b'L'; SHARE_THRESHOLD]);
    for (frame_type, id, payload) in [
        (FrameType::CONTROL, 0, Bytes::from_static(b"{}")),
        (FrameType::DATA, 0, Bytes::from_static(b"a")),
        (FrameType::PING, 0, Bytes::from_static(b"p")),
        (FrameType::REQUEST, 7, large.clone()),
        (FrameType::DATA, 0, Bytes::new()),
        (FrameType::RESPONSE, 9, Bytes::from_static(b"r")),
    ] {
        output.push(Framing::Msgi, frame_type, false, id, payload);
    }
    replay.keep_new(&mut output);
    replay.keep_new(&mut output);
    let expected = vec![
        (FrameType::DATA.0, 0, b"a".to_vec()),
        (FrameType::REQUEST.0, 7, large.to_vec()),
        (FrameType::DATA.0, 0, Vec::new()),
        (FrameType::RESPONSE.0, 9, b"r".to_vec()),
    ];
    assert_eq!(flat(&replay, 0), expected);
    assert_eq!(flat(&replay, 2), expected[2..]);
    assert_eq!(replay.bytes(), 11 + 18 + SHARE_THRESHOLD + 10 + 19);
    // Only messages are reported; whoever asked learns in another way.
    assert_eq!(replay.messages().len(), 2);
    // The next read begins anew.
    output.reset(usize::MAX);
    output.push(
        Framing::Msgi,
        FrameType::DATA,
        false,
        0,
        Bytes::from_static(b"z"),
    );
    replay.keep_new(&mut output);
    replay.free(4);
    assert_eq!(flat(&replay, 4), [(FrameType::DATA.0, 0, b"z".to_vec())]);
    replay.free(5);
    assert_eq!((replay.bytes(), replay.len()), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8, usize),
    Whole(usize),
    Keep,
    Written,
    Free(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![6 => 0..200_usize, 1 => Just(SHARE_THRESHOLD), 1 => Just(70_000_usize)];
    let len = len.boxed();
    prop_oneof![
        8 => (0..5_u8, len.clone()).prop_map(|(kind, len)| Step::Push(kind, len)),
        1 => len.prop_map(Step::Whole),
        3 => Just(Step::Keep),
        2 => Just(Step::Written),
        3 => (0..6_u64).prop_map(Step::Free),
    ]
}

proptest! {
    #[test]
    fn what_is_kept_is_what_was_sent_and_not_freed(
        steps in prop::collection::vec(any_step(), 0..120)
    ) {
        let types = [
            FrameType::DATA,
            FrameType::CONTROL,
            FrameType::REQUEST,
            FrameType::FAILURE,
            FrameType(0x8001),
        ];
        let mut replay = Replay::default();
        let mut output = Output::default();
        let mut all: Vec<Flat> = Vec::new();
        let mut pending = Vec::new();
        let mut freed = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(kind, len) => {
                    let frame_type = types[usize::from(kind)];
                    let id = if frame_type.has_id() { number as u64 } else { 0 };
                    let payload = Bytes::from(vec![number as u8; len]);
                    output.push(Framing::Msgi, frame_type, false, id, payload.clone());
                    if is_application(frame_type) {
                        pending.push((frame_type.0, id, payload.to_vec()));
                    }
                }
                Step::Whole(len) => {
                    replay.keep_new(&mut output);
                    all.append(&mut pending);
                    let payload = Bytes::from(vec![1; len]);
                    all.push((FrameType::DATA.0, 0, payload.to_vec()));
                    replay.keep(Frame::new(FrameType::DATA, false, 0, payload));
                }
                Step::Keep => {
                    replay.keep_new(&mut output);
                    all.append(&mut pending);
                }
                Step::Written => {
                    replay.keep_new(&mut output);
                    all.append(&mut pending);
                    output.reset(usize::MAX);
                }
                Step::Free(count) => {
                    freed = (freed + count as usize).min(all.len());
                    replay.free(freed as u64);
                }
            }
            prop_assert_eq!(&flat(&replay, freed as u64), &all[freed..]);
            let half = freed + (all.len() - freed) / 2;
            prop_assert_eq!(&flat(&replay, half as u64), &all[half..]);
            let bytes = all[freed..].iter().map(|(frame_type, _, payload)| {
                wire_len(FrameType(*frame_type), payload.len())
            });
            prop_assert_eq!(replay.bytes(), bytes.sum::<usize>());
            prop_assert_eq!(replay.sent(), all.len() as u64);
        }
    }
}
