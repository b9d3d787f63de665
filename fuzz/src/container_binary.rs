//! Containers in the low-level binary form, and its inner forms.

use bytes::Bytes;
use network_system::container::binary::{
    Item, decode_entries, decode_store, encode_entries, encode_store,
};
use network_system::container::{Container, DecodeOptions, Format};

use crate::container_msgpack::{assert_reads, container};
use crate::input::Input;

/// The input is read as a container, an item, entries and a store, and as a recipe for a container. Promises:
/// reading does not panic; what was read is written, and reads as the same; what was made from the recipe is
/// read as the same or not written.
pub fn run(data: &[u8]) {
    let input = Bytes::copy_from_slice(data);
    assert_reads(Format::Binary, &input);

    let options = DecodeOptions::default();
    if let Ok(item) = Item::decode(&input, &options) {
        let mut written = Vec::new();
        item.encode_into(&mut written).expect("it has been read");
        assert_eq!(Item::decode(&written.into(), &options), Ok(item));
    }
    if let Ok(entries) = decode_entries(&input, &options) {
        let mut written = Vec::new();
        encode_entries(&entries, &mut written).expect("it has been read");
        assert_eq!(
            decode_entries(&written.into(), &options).as_ref(),
            Ok(&entries)
        );
    }
    if let Ok(entries) = decode_store(&input, &options) {
        let mut written = Vec::new();
        encode_store(&entries, &mut written).expect("it has been read");
        assert_eq!(
            decode_store(&written.into(), &options).as_ref(),
            Ok(&entries)
        );
    }

    let made = container(&mut Input::new(data), 0);
    match made.encode(Format::Binary) {
        Ok(written) => assert_eq!(Container::decode(Format::Binary, &written.into()), Ok(made)),
        Err(error) => assert!(!error.carriers().is_empty(), "{error}"),
    }
}
