//! What the text, the C++-style JSON and the XML of the C++ library write alike: bools and numbers.

use std::io::Write;

use super::{Value, c_numbers};

/// Writes a bool or a number.
///
/// # Errors
/// What cannot be written: a number that would be rounded, and what these forms have no place for. Null and
/// strings are the forms' own, and refused here.
pub(super) fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), &'static str> {
    // Writing to a vector does not fail.
    match value {
        Value::Null => return Err("a null"),
        Value::String(_) => return Err("a string"),
        Value::Bytes(_) => return Err("bytes"),
        Value::Container(_) => return Err("a container"),
        Value::Array(_) => return Err("an array"),
        Value::Bool(value) => {
            let _ = write!(out, "{value}");
        }
        Value::Float(number) if !c_numbers::is_exact_fixed_f32(*number) => {
            return Err("a float of more than six decimals");
        }
        Value::Float(number) => c_numbers::write_fixed(out, f64::from(*number)),
        Value::Double(number) if !c_numbers::is_exact_fixed(*number) => {
            return Err("a double of more than six decimals");
        }
        Value::Double(number) => c_numbers::write_fixed(out, *number),
        Value::Short(_)
        | Value::UShort(_)
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Long(_)
        | Value::ULong(_)
        | Value::LLong(_)
        | Value::ULLong(_) => {
            let _ = write!(out, "{}", value.as_integer().unwrap_or_default());
        }
    }
    Ok(())
}
