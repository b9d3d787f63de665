//! For this crate's own tests, fuzzing and benches. Not part of the public interface; anything here can
//! change.

mod bench;
mod bytes_in;
mod core;
mod pipeline;
mod reliable;
pub mod simulation;
mod websocket;

pub use self::bench::{Decode, Encode, Queue, encode_for_many};
pub use self::bytes_in::{Control, Ending, ReceivedStream, receive};
pub use self::core::Core;
pub use self::pipeline::StageLink;
pub use self::reliable::ReliableSide;
pub use self::websocket::{
    WebSocketDecode, WebSocketDeflate, WebSocketEnding, WebSocketOptions, is_websocket_control,
    push_websocket_frame, push_websocket_message, read_websocket_upgrade, receive_websocket,
};
pub use crate::codec::websocket::deflate::Deflate;

use std::future::poll_fn;
use std::io;

use bytes::Bytes;

use crate::codec::FrameType;
use crate::session::output::Frame;
use crate::transport::memory::End;

/// A frame as it travels in process, well-formed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// The number of the type.
    pub frame_type: u16,
    /// Whether the message is text.
    pub text: bool,
    /// The correlation id, for the types that have one.
    pub id: u64,
    /// What follows the header and the correlation id.
    pub payload: Bytes,
}

/// A peer on `mem://` that speaks frames and has no session: what a raw socket is for TCP.
#[derive(Debug)]
pub struct MemoryPeer {
    end: End,
}

impl MemoryPeer {
    /// Connects to the listener with this name.
    ///
    /// # Errors
    /// `ConnectionRefused` when nobody listens there.
    pub async fn connect(name: &str) -> io::Result<Self> {
        Ok(MemoryPeer {
            end: End::connect(name).await?,
        })
    }

    /// Writes a frame and waits for room. Dropping the future before it is ready writes nothing.
    ///
    /// # Errors
    /// `BrokenPipe` when the other side is gone.
    pub async fn send(&mut self, frame: RawFrame) -> io::Result<()> {
        let RawFrame {
            frame_type,
            text,
            id,
            payload,
        } = frame;
        let mut frame = Some(Frame::new(FrameType(frame_type), text, id, payload));
        poll_fn(|context| {
            self.end
                .poll_write(context, &mut frame, Option::as_ref, Option::take)
        })
        .await
    }

    /// Waits for the next frame; `None` at the end. Dropping the future loses nothing.
    pub async fn receive(&mut self) -> Option<RawFrame> {
        let mut received = None;
        poll_fn(|context| {
            self.end.poll_read(context, |frame| {
                received = Some(frame);
                false
            })
        })
        .await;
        received.map(
            |Frame {
                 frame_type,
                 text,
                 id,
                 payload,
                 ..
             }| RawFrame {
                frame_type: frame_type.0,
                text,
                id,
                payload,
            },
        )
    }

    /// Ends the sending direction.
    pub fn shutdown(&mut self) {
        self.end.shutdown();
    }
}
