//! The fuzz targets. Each is a function over bytes that panics when a promise is broken; the programs of
//! libFuzzer and the replay on a stable compiler call the same functions.

pub mod container_binary;
pub mod container_json;
pub mod container_msgpack;
pub mod container_text;
pub mod control_json;
mod input;
pub mod lines_length;
pub mod msgi_frame;
pub mod pipeline_decode;
pub mod reliable_resumes;
pub mod session_ops;
pub mod websocket;

pub use input::Random;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("container_binary", container_binary::run),
    ("container_json", container_json::run),
    ("container_msgpack", container_msgpack::run),
    ("container_text", container_text::run),
    ("control_json", control_json::run),
    ("lines_length", lines_length::run),
    ("msgi_frame", msgi_frame::run),
    ("pipeline_decode", pipeline_decode::run),
    ("reliable_resumes", reliable_resumes::run),
    ("session_ops", session_ops::run),
    ("websocket", websocket::run),
];
