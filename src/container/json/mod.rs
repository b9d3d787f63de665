//! Typed JSON 2.0, the format of the C++ library's ports.
//!
//! ```json
//! {"container":{"metadata":{"message_type":"m","protocol_version":"1.0.0.0",
//!   "source":{"id":"","sub_id":""},"target":{"id":"","sub_id":""}},
//!   "values":[{"data":42,"name":"n","type":4,"type_name":"int"}],"version":"2.0"}}
//! ```
//!
//! It says the type of every value. A container inside has no header in the ports' form; one whose header is not that
//! of a new container without type gets a `metadata` of its own, which the ports do not know.

mod read;
mod write;

pub(super) use self::read::decode;
pub(super) use self::write::encode;
