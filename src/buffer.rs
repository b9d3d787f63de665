//! Bytes in segments.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Slices are put together in segments of this many bytes.
const SEGMENT: usize = 4 * 1024;

/// Bytes that arrive in pieces at one end and are taken at the other.
///
/// Pieces that are handed over are neither copied nor put together: each stays a segment of its own. A buffer
/// of `n` bytes in `s` segments needs `n` bytes and 32 bytes for each segment. It has no limit of its own: who
/// writes to it has to see to that.
///
/// ```
/// use network_system::SegmentedBuffer;
///
/// let mut buffer = SegmentedBuffer::new();
/// buffer.write(b"head".to_vec());
/// buffer.write("body");
/// assert_eq!(*buffer.peek(6), *b"headbo");
/// assert_eq!(buffer.consume(4), 4);
/// assert_eq!(*buffer.peek(6), *b"body");
/// ```
///
/// It is a [`Buf`], so that it can be read as numbers, taken in parts ([`copy_to_bytes`](Buf::copy_to_bytes)
/// copies nothing that lies in one segment) and written in one call with several slices.
#[derive(Clone, Debug, Default)]
pub struct SegmentedBuffer {
    /// None of them is empty.
    segments: VecDeque<Bytes>,
    /// The last segment, to which slices are still added.
    tail: BytesMut,
    /// Bytes in all of them.
    len: usize,
}

impl SegmentedBuffer {
    /// An empty buffer, which allocates nothing yet.
    pub fn new() -> Self {
        SegmentedBuffer::default()
    }

    /// Adds a segment without copying it.
    pub fn write(&mut self, segment: impl Into<Bytes>) {
        let segment = segment.into();
        if !segment.is_empty() {
            self.close_tail();
            self.len += segment.len();
            self.segments.push_back(segment);
        }
    }

    /// Adds a copy of these bytes. Short slices share segments of 4 KiB.
    pub fn write_slice(&mut self, bytes: &[u8]) {
        if bytes.len() > self.tail.capacity() - self.tail.len() {
            self.close_tail();
            if bytes.len() >= SEGMENT {
                return self.write(Bytes::copy_from_slice(bytes));
            }
            self.tail = BytesMut::with_capacity(SEGMENT);
        }
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// The first `n` bytes, or all when there are fewer. They stay in the buffer.
    ///
    /// They are borrowed when they lie in the first segment. Otherwise these `n` bytes, and no others, are
    /// copied, each time.
    pub fn peek(&self, n: usize) -> Cow<'_, [u8]> {
        let n = n.min(self.len);
        if let Some(bytes) = self.chunk().get(..n) {
            return Cow::Borrowed(bytes);
        }
        let mut bytes = Vec::with_capacity(n);
        for segment in self.segments() {
            let missing = n - bytes.len();
            bytes.extend_from_slice(&segment[..missing.min(segment.len())]);
        }
        Cow::Owned(bytes)
    }

    /// Removes the first `n` bytes, or all when there are fewer. Returns how many. A segment's memory is given
    /// back when its last byte is removed and nobody else has a part of it.
    pub fn consume(&mut self, n: usize) -> usize {
        let n = n.min(self.len);
        let mut rest = n;
        while let Some(first) = self.segments.front_mut() {
            if rest < first.len() {
                first.advance(rest);
                rest = 0;
                break;
            }
            rest -= first.len();
            self.segments.pop_front();
        }
        // What is left lies in the tail, since there are at least `n` bytes.
        self.tail.advance(rest);
        self.len -= n;
        n
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes all bytes and gives back their memory.
    pub fn clear(&mut self) {
        *self = SegmentedBuffer::new();
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let tail = (!self.tail.is_empty()).then_some(&*self.tail);
        self.segments.iter().map(|segment| &**segment).chain(tail)
    }

    /// Nothing is added to the last segment any more.
    fn close_tail(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        if !tail.is_empty() {
            self.segments.push_back(tail.freeze());
        }
    }
}

impl Buf for SegmentedBuffer {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.segments().next().unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, segment) in slices.iter_mut().zip(self.segments()) {
            *slice = IoSlice::new(segment);
            count += 1;
        }
        count
    }

    /// # Panics
    /// There are fewer than `n` bytes. [`consume`](Self::consume) removes all of them then.
    fn advance(&mut self, n: usize) {
        assert!(n <= self.len, "cannot advance past the end of the buffer");
        self.consume(n);
    }

    /// # Panics
    /// There are fewer than `n` bytes.
    fn copy_to_bytes(&mut self, n: usize) -> Bytes {
        assert!(n <= self.len, "cannot take more bytes than there are");
        match self.segments.front_mut() {
            Some(first) if n <= first.len() => {
                let bytes = first.split_to(n);
                if first.is_empty() {
                    self.segments.pop_front();
                }
                self.len -= n;
                bytes
            }
            None => {
                self.len -= n;
                self.tail.split_to(n).freeze()
            }
            Some(_) => {
                let bytes = Bytes::from(self.peek(n).into_owned());
                self.consume(n);
                bytes
            }
        }
    }
}

impl Extend<Bytes> for SegmentedBuffer {
    fn extend<T: IntoIterator<Item = Bytes>>(&mut self, segments: T) {
        for segment in segments {
            self.write(segment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn what_is_handed_over_is_not_copied() {
        let (one, other) = (Bytes::from(vec![1; 100]), Bytes::from(vec![2; 100]));
        let mut buffer = SegmentedBuffer::new();
        buffer.extend([one.clone(), other.clone()]);
        assert!(matches!(buffer.peek(100), Cow::Borrowed(_)));
        assert!(matches!(buffer.peek(101), Cow::Owned(_)));
        assert_eq!(buffer.peek(100).as_ptr(), one.as_ptr());
        let taken = buffer.copy_to_bytes(60);
        assert_eq!(taken.as_ptr(), one.as_ptr());
        buffer.consume(40);
        assert_eq!(buffer.peek(1).as_ptr(), other.as_ptr());
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(buffer.chunks_vectored(&mut slices), 1);
        assert_eq!(slices[0].as_ptr(), other.as_ptr());
    }

    #[test]
    fn short_slices_share_a_segment() {
        let mut buffer = SegmentedBuffer::new();
        for byte in 0..=255 {
            buffer.write_slice(&[byte]);
        }
        assert!(matches!(buffer.peek(256), Cow::Borrowed(_)));
        buffer.write(b"other".to_vec());
        buffer.write_slice(b"end");
        assert_eq!(buffer.segments().count(), 3);
        assert_eq!(buffer.len(), 264);
    }

    #[test]
    fn more_than_there_is_gives_what_there_is() {
        let mut buffer = SegmentedBuffer::new();
        assert_eq!(*buffer.peek(3), *b"");
        assert_eq!(buffer.consume(3), 0);
        buffer.write("ab");
        buffer.write("");
        buffer.write_slice(b"c");
        assert_eq!(*buffer.peek(usize::MAX), *b"abc");
        assert_eq!(buffer.consume(usize::MAX), 3);
        assert!(buffer.is_empty());
        buffer.write_slice(b"d");
        buffer.clear();
        assert!(buffer.is_empty() && buffer.chunk().is_empty());
    }

    #[test]
    fn numbers_may_lie_across_segments() {
        let mut buffer = SegmentedBuffer::new();
        for byte in [0xDE, 0xAD, 0xBE, 0xEF] {
            buffer.write(vec![byte]);
        }
        assert_eq!(buffer.get_u32(), 0xDEAD_BEEF);
        assert!(!buffer.has_remaining());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(Vec<u8>),
        WriteSlice(Vec<u8>),
        Peek(usize),
        Consume(usize),
        Take(usize),
        Clear,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..50);
        let long = (any::<u8>(), 0..10_000_usize).prop_map(|(byte, len)| vec![byte; len]);
        prop_oneof![
            4 => bytes().prop_map(Step::Write),
            4 => bytes().prop_map(Step::WriteSlice),
            1 => long.prop_map(Step::WriteSlice),
            4 => (0..200_usize).prop_map(Step::Peek),
            4 => (0..200_usize).prop_map(Step::Consume),
            2 => (0..200_usize).prop_map(Step::Take),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        #[test]
        fn it_gives_the_bytes_of_a_plain_queue(steps in prop::collection::vec(any_step(), 0..60)) {
            let (mut buffer, mut model) = (SegmentedBuffer::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Write(bytes) => {
                        model.extend_from_slice(&bytes);
                        buffer.write(bytes);
                    }
                    Step::WriteSlice(bytes) => {
                        model.extend_from_slice(&bytes);
                        buffer.write_slice(&bytes);
                    }
                    Step::Peek(n) => {
                        prop_assert_eq!(&*buffer.peek(n), &model[..n.min(model.len())]);
                    }
                    Step::Consume(n) => {
                        prop_assert_eq!(buffer.consume(n), n.min(model.len()));
                        model.drain(..n.min(model.len()));
                    }
                    Step::Take(n) => {
                        let n = n.min(model.len());
                        let expected: Vec<u8> = model.drain(..n).collect();
                        prop_assert_eq!(buffer.copy_to_bytes(n), expected);
                    }
                    Step::Clear => {
                        buffer.clear();
                        model.clear();
                    }
                }
                prop_assert_eq!(buffer.len(), model.len());
                prop_assert_eq!(buffer.is_empty(), model.is_empty());
                prop_assert_eq!(buffer.chunk().is_empty(), model.is_empty());
                prop_assert_eq!(buffer.segments().collect::<Vec<_>>().concat(), &*model);
            }
        }
    }
}
