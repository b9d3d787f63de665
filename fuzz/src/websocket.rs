//! WebSocket frames in any bytes, cut at any places; and the handshake before them.

use network_system::internal::{
    RawFrame, WebSocketDeflate, WebSocketEnding, WebSocketOptions, is_websocket_control,
    push_websocket_frame, read_websocket_upgrade, receive_websocket,
};

use crate::input::{FRAME_TYPES, Input, cut, push_frame};

/// The input is the options, a cut, and a recipe for a stream. Promises:
///
/// - however the stream is cut, the same messages come out of it, and it ends in the same way;
/// - no message is longer than its limit, and no text is anything but UTF-8;
/// - messages that were put into the stream, compressed or not, come out of it as they were.
///
/// `receive_websocket` checks what one pass may do.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let seed = input.quad();
    let (takeover, bits) = (flags & 8 != 0, 9 + (flags >> 4) % 7);
    let options = WebSocketOptions {
        client: flags & 1 != 0,
        msgi: flags & 2 != 0,
        message_limit: [1, 64, 1_000, 70_000, 1024 * 1024][usize::from(input.byte()) % 5],
        inflate: (flags & 4 != 0).then_some((takeover, bits)),
    };
    if input.byte() == 0 {
        read_websocket_upgrade(input.rest());
        return;
    }
    let mut recipe = Recipe {
        deflate: WebSocketDeflate::new(takeover, bits, 1 + flags % 9),
        stream: Vec::new(),
        expected: Vec::new(),
        intact: true,
        options: &options,
    };
    recipe.follow(&mut input);
    let Recipe {
        stream,
        expected,
        intact,
        ..
    } = recipe;
    let whole = receive_websocket(&options, [&stream[..]]);
    check(&options, &whole.0);
    if intact {
        assert_eq!(whole.0, expected);
        assert_eq!(whole.1, WebSocketEnding::Boundary);
    }
    let pieces = receive_websocket(&options, cut(&stream, seed));
    assert_eq!(pieces, whole);
    // Byte by byte, as far as that is quick.
    if stream.len() <= 20_000 {
        let bytes = receive_websocket(&options, stream.chunks(1));
        assert_eq!(bytes, whole);
    }
}

struct Recipe<'a> {
    options: &'a WebSocketOptions,
    deflate: WebSocketDeflate,
    stream: Vec<u8>,
    /// What has to come out, as long as the stream is `intact`.
    expected: Vec<RawFrame>,
    intact: bool,
}

impl Recipe<'_> {
    fn follow(&mut self, input: &mut Input<'_>) {
        while !input.is_empty() && self.stream.len() < 500_000 {
            let what = input.byte();
            match what % 8 {
                0..=2 => {
                    let len = input.byte().into();
                    let payload = input.bytes(len).to_vec();
                    self.message(what, &payload, input);
                }
                3 => {
                    let payload = vec![input.byte(); usize::from(input.pair())];
                    for _ in 0..=input.byte() % 4 {
                        self.message(what, &payload, input);
                    }
                }
                4 => self.ping(input),
                // Any frame.
                5 | 6 => {
                    self.intact = false;
                    let (first, len) = (input.byte(), input.byte().into());
                    let mask = (!self.options.client).then(|| input.quad().to_be_bytes());
                    let payload = input.bytes(len);
                    push_websocket_frame(&mut self.stream, first, mask, payload);
                }
                // Any bytes.
                _ => {
                    self.intact = false;
                    let len = input.byte().into();
                    self.stream.extend_from_slice(input.bytes(len));
                }
            }
        }
    }

    /// A message that arrives, in one frame or several.
    fn message(&mut self, what: u8, payload: &[u8], input: &mut Input<'_>) {
        let options = self.options;
        let text = !options.msgi && what & 8 != 0 && std::str::from_utf8(payload).is_ok();
        let frame_type = FRAME_TYPES[usize::from(what >> 4) % FRAME_TYPES.len()];
        let mut message = payload.to_vec();
        if options.msgi {
            message.clear();
            push_frame(&mut message, frame_type, payload);
            // Which of them are valid is `msgi_frame`'s to say.
            let is_plain = matches!(frame_type, 0x10 | 0x8000..);
            self.intact &= is_plain && payload.len() <= options.message_limit;
        }
        self.intact &= options.msgi || payload.len() <= options.message_limit;
        let mut sent = Vec::new();
        let compressed = options.inflate.is_some()
            && what & 16 != 0
            && self.deflate.compress(&message, &mut sent);
        if !compressed {
            sent = message;
        }
        self.expected.push(RawFrame {
            frame_type: if options.msgi { frame_type } else { 0x10 },
            text,
            id: 0,
            payload: payload.to_vec().into(),
        });
        let first = u8::from(compressed) << 6 | if text { 1 } else { 2 };
        let at = match what & 32 {
            0 => 0,
            _ => usize::from(input.pair()) % (sent.len() + 1),
        };
        let (one, other) = sent.split_at(at);
        if at == 0 {
            return self.frame(0x80 | first, other, input);
        }
        self.frame(first, one, input);
        if what & 64 != 0 {
            let last = self.expected.pop();
            self.ping(input);
            self.expected.extend(last);
        }
        self.frame(0x80, other, input);
    }

    fn ping(&mut self, input: &mut Input<'_>) {
        let (first, frame_type) = match input.byte() % 2 {
            0 => (0x89, 1),
            _ => (0x8A, 2),
        };
        let len = usize::from(input.byte()) % 126;
        let payload = input.bytes(len).to_vec();
        self.frame(first, &payload, input);
        self.expected.push(RawFrame {
            frame_type,
            text: true,
            id: 0,
            payload: payload.into(),
        });
    }

    fn frame(&mut self, first: u8, payload: &[u8], input: &mut Input<'_>) {
        let mask = (!self.options.client).then(|| [input.byte(), 0x55, 0xAA, first]);
        push_websocket_frame(&mut self.stream, first, mask, payload);
    }
}

fn check(options: &WebSocketOptions, frames: &[RawFrame]) {
    for frame in frames {
        if is_websocket_control(frame) {
            assert!(frame.payload.len() <= 125);
            continue;
        }
        let most = match frame.frame_type {
            0x10..=0x12 | 0x8000.. => options.message_limit,
            0x01 | 0x02 | 0x40 => 125,
            0x20 => 64 * 1_024,
            0x13 | 0x30 | 0x50 => 4 + 1_024,
            other => panic!("a frame of the unknown type {other:#06x}"),
        };
        assert!(frame.payload.len() <= most);
        assert!(options.msgi || frame.frame_type == 0x10);
        assert!(!frame.text || std::str::from_utf8(&frame.payload).is_ok());
    }
}
