//! Taking decisions from fuzz input.

/// What is left of the input. When it is used up, every decision is 0.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Input(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    pub(crate) fn pair(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn quad(&mut self) -> u32 {
        u32::from(self.pair()) << 16 | u32::from(self.pair())
    }

    /// The next `len` bytes, or as many as there are.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Cuts `stream` into pieces whose lengths follow from `seed`; most are small, some span many frames.
pub(crate) fn cut(stream: &[u8], seed: u32) -> Vec<&[u8]> {
    let mut random = Random::new(seed.into());
    let (mut rest, mut pieces) = (stream, Vec::new());
    while !rest.is_empty() {
        let most = match random.next() % 8 {
            0 => 1,
            1..=3 => 16,
            4 | 5 => 300,
            6 => 20_000,
            _ => 300_000,
        };
        let len = (1 + random.next() as usize % most).min(rest.len());
        let (piece, left) = rest.split_at(len);
        pieces.push(piece);
        rest = left;
    }
    pieces
}

/// A small generator of numbers that look random (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// The frame types of the protocol, two of applications, and two that do not exist.
pub(crate) const FRAME_TYPES: [u16; 14] = [
    0x0010, 0x0001, 0x0002, 0x0011, 0x0012, 0x0013, 0x0020, 0x0030, 0x0040, 0x0050, 0x8000, 0xFFFF,
    0x0000, 0x7FFF,
];

/// Appends an MSGI header.
pub(crate) fn push_header(stream: &mut Vec<u8>, length: u32, frame_type: u16) {
    stream.extend_from_slice(b"MSGI");
    stream.extend_from_slice(&length.to_be_bytes());
    stream.extend_from_slice(&frame_type.to_be_bytes());
}

/// Appends a whole MSGI frame.
pub(crate) fn push_frame(stream: &mut Vec<u8>, frame_type: u16, payload: &[u8]) {
    push_header(stream, payload.len() as u32 + 10, frame_type);
    stream.extend_from_slice(payload);
}
