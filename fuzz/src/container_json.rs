//! Containers as JSON: typed JSON 2.0, and the C++ library's JSON.

use bytes::Bytes;
use network_system::container::{Container, DecodeOptions, Format};

use crate::container_text::check;

/// The first byte chooses a format and a depth, the rest is a container. The promises are those of `container_text`.
pub fn run(data: &[u8]) {
    let Some((choice, json)) = data.split_first() else {
        return;
    };
    let format = match choice % 2 {
        0 => Format::Json,
        _ => Format::CppJson,
    };
    let options = DecodeOptions::new().max_depth(usize::from(choice / 2));
    let input = Bytes::copy_from_slice(json);
    let read = Container::decode_with(format, &input, &options);
    // The limit when it is read again is that of the defaults.
    if options.max_depth <= DecodeOptions::default().max_depth {
        check(read, &input, &[Format::Json]);
    }
}
