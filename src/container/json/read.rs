//! Reading typed JSON 2.0. Keys may stand in any order; those that are unknown are skipped.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::super::c_numbers::{self, Refused};
use super::super::json_reader::{JsonKind, JsonReader};
use super::super::{Container, DecodeError, DecodeOptions, Format, Header, Text, Value, ValueType};

pub(in super::super) fn decode(
    input: &Bytes,
    options: &DecodeOptions,
) -> Result<Container, DecodeError> {
    let mut reader = Reader {
        json: JsonReader::new(Format::Json, input)?,
        options,
        count: 0,
    };
    let mut container = None;
    reader.object(|reader, key, at| match key {
        "container" => set(&mut container, reader.container()?, at),
        _ => reader.skip(),
    })?;
    let end = reader.json.position();
    reader.json.end()?;
    container.ok_or_else(|| error_at(end, "there is no container"))
}

struct Reader<'a> {
    json: JsonReader<'a>,
    options: &'a DecodeOptions,
    /// How many values there were.
    count: usize,
}

/// What stands at `data`. What it means depends on the type, which may follow.
enum Data<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    String(Cow<'a, str>),
    List(Vec<(Text, Value)>),
}

impl<'a> Reader<'a> {
    /// The object that holds a container.
    fn container(&mut self) -> Result<Container, DecodeError> {
        let mut header = None;
        let mut values = None;
        let mut version = None;
        self.object(|reader, key, at| match key {
            "metadata" => set(&mut header, reader.metadata()?, at),
            "values" => set(&mut values, reader.list(1)?, at),
            "version" => set(&mut version, reader.json.string()?, at),
            _ => reader.skip(),
        })?;
        let end = self.json.position();
        if version.as_deref() != Some("2.0") {
            return Err(error_at(end, "the version is not 2.0"));
        }
        let values = values.ok_or_else(|| error_at(end, "there are no values"))?;
        let header = header.unwrap_or_else(Header::before_reading);
        Ok(Container::from_parts(header, values))
    }

    fn metadata(&mut self) -> Result<Header, DecodeError> {
        let mut message_type = None;
        let mut version = None;
        let mut source = None;
        let mut target = None;
        self.object(|reader, key, at| match key {
            "message_type" => set(&mut message_type, reader.json.shared_text()?, at),
            "protocol_version" => set(&mut version, reader.json.shared_text()?, at),
            "source" => set(&mut source, reader.ids()?, at),
            "target" => set(&mut target, reader.ids()?, at),
            _ => reader.skip(),
        })?;
        let mut header = Header::before_reading();
        if let Some(message_type) = message_type {
            header.message_type = message_type;
        }
        if let Some(version) = version {
            header.version = version;
        }
        (header.source, header.source_sub) = source.unwrap_or_default();
        (header.target, header.target_sub) = target.unwrap_or_default();
        Ok(header)
    }

    fn ids(&mut self) -> Result<(Text, Text), DecodeError> {
        let mut id = None;
        let mut sub_id = None;
        self.object(|reader, key, at| match key {
            "id" => set(&mut id, reader.json.shared_text()?, at),
            "sub_id" => set(&mut sub_id, reader.json.shared_text()?, at),
            _ => reader.skip(),
        })?;
        Ok((id.unwrap_or_default(), sub_id.unwrap_or_default()))
    }

    /// A list of values, inside of `depth` containers and arrays.
    fn list(&mut self, depth: usize) -> Result<Vec<(Text, Value)>, DecodeError> {
        if depth > self.options.depth() {
            return Err(DecodeError::too_deep(Format::Json, self.json.position()));
        }
        let mut values = Vec::new();
        let mut is_first = true;
        self.json.array()?;
        while self.json.element(&mut is_first)? {
            self.count += 1;
            if self.count > self.options.max_values {
                return Err(DecodeError::too_many(Format::Json, self.json.position()));
            }
            values.push(self.value(depth)?);
        }
        Ok(values)
    }

    /// A value with its name.
    fn value(&mut self, depth: usize) -> Result<(Text, Value), DecodeError> {
        let mut name = None;
        let mut type_id = None;
        let mut type_name = None;
        let mut data = None;
        let mut header = None;
        let mut encoding = None;
        let mut children = None;
        let mut elements = None;
        self.json.kind()?;
        let start = self.json.position();
        self.object(|reader, key, at| match key {
            "name" => set(&mut name, reader.json.shared_text()?, at),
            "type" => set(&mut type_id, reader.json.number()?, at),
            "type_name" => set(&mut type_name, reader.json.string()?, at),
            "data" => set(&mut data, reader.data(depth)?, at),
            "metadata" => set(&mut header, reader.metadata()?, at),
            "encoding" => set(&mut encoding, reader.json.string()?, at),
            "child_count" => set(&mut children, reader.json.number()?, at),
            "element_count" => set(&mut elements, reader.json.number()?, at),
            _ => reader.skip(),
        })?;
        let name = name.unwrap_or_default();
        let read = || -> Result<Value, Refused> {
            let value_type = value_type(type_id, type_name.as_deref())?;
            let data = match data {
                Some(data) => data,
                None if value_type == ValueType::Null => Data::Null,
                None => return Err("there is no data"),
            };
            if encoding.is_some_and(|encoding| encoding != "base64") {
                return Err("the encoding is not base64");
            }
            if let Data::List(values) = &data {
                let counts = [children, elements];
                for count in counts.iter().flatten() {
                    if c_numbers::read_integer(count.as_bytes()) != Ok(values.len()) {
                        return Err("there are more or fewer values than were counted");
                    }
                }
            }
            self.typed(value_type, data, header)
        };
        match read() {
            Ok(value) => Ok((name, value)),
            Err(reason) => Err(error_at(start, reason).inside(&name)),
        }
    }

    fn data(&mut self, depth: usize) -> Result<Data<'a>, DecodeError> {
        Ok(match self.json.kind()? {
            JsonKind::Null => {
                self.json.null()?;
                Data::Null
            }
            JsonKind::Bool => Data::Bool(self.json.bool()?),
            JsonKind::Number => Data::Number(self.json.number()?),
            JsonKind::String => Data::String(self.json.string()?),
            JsonKind::Array => Data::List(self.list(depth + 1)?),
            JsonKind::Object => {
                return Err(self.json.error("data is no object"));
            }
        })
    }

    /// The value of this type that `data` is.
    fn typed(
        &self,
        value_type: ValueType,
        data: Data<'a>,
        header: Option<Header>,
    ) -> Result<Value, Refused> {
        if let Data::Number(digits) = data {
            return number(value_type, digits.as_bytes());
        }
        Ok(match (value_type, data) {
            (ValueType::Null, Data::Null) => Value::Null,
            (ValueType::Bool, Data::Bool(value)) => Value::Bool(value),
            (ValueType::String, Data::String(text)) => Value::String(self.json.share(text)),
            (ValueType::Bytes, Data::String(text)) => match STANDARD.decode(text.as_bytes()) {
                Ok(bytes) => Value::Bytes(bytes.into()),
                Err(_) => return Err("the data is not base64"),
            },
            (ValueType::Container, Data::Null) => Value::Container(None),
            (ValueType::Container, Data::List(values)) => {
                Container::from_parts(header.unwrap_or_default(), values).into()
            }
            (ValueType::Array, Data::List(values)) => {
                if values.iter().any(|(name, _)| !name.is_empty()) {
                    return Err("an element of the array has a name");
                }
                Value::Array(values.into_iter().map(|(_, value)| value).collect())
            }
            _ => return Err("the data is not of the type"),
        })
    }

    fn skip(&mut self) -> Result<(), DecodeError> {
        self.json.skip(self.options.depth())
    }

    /// Reads an object; `member` gets each key and its position, and reads the value.
    fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str, usize) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let mut is_first = true;
        self.json.object()?;
        while let Some(key) = self.json.key(&mut is_first)? {
            let at = self.json.position();
            member(self, &key, at)?;
        }
        Ok(())
    }
}

fn number(value_type: ValueType, digits: &[u8]) -> Result<Value, Refused> {
    let value = match value_type {
        ValueType::Short => c_numbers::read_integer(digits).map(Value::Short),
        ValueType::UShort => c_numbers::read_integer(digits).map(Value::UShort),
        ValueType::Int => c_numbers::read_integer(digits).map(Value::Int),
        ValueType::UInt => c_numbers::read_integer(digits).map(Value::UInt),
        ValueType::Long => c_numbers::read_integer(digits).map(Value::Long),
        ValueType::ULong => c_numbers::read_integer(digits).map(Value::ULong),
        ValueType::LLong => c_numbers::read_integer(digits).map(Value::LLong),
        ValueType::ULLong => c_numbers::read_integer(digits).map(Value::ULLong),
        ValueType::Float => c_numbers::read_f32(digits).map(Value::Float),
        ValueType::Double => c_numbers::read_f64(digits).map(Value::Double),
        _ => return Err("the data is not of the type"),
    };
    value.map_err(|_| "the number is not of the type")
}

fn value_type(id: Option<&str>, name: Option<&str>) -> Result<ValueType, Refused> {
    let by_id = id.map(|id| {
        c_numbers::read_integer(id.as_bytes())
            .ok()
            .and_then(ValueType::from_id)
    });
    let by_name = name.map(ValueType::from_name);
    match (by_id, by_name) {
        (Some(Some(id)), Some(Some(name))) if id != name => Err("the type has another name"),
        (Some(None), _) | (_, Some(None)) => Err("there is no such type"),
        (Some(Some(found)), _) | (_, Some(Some(found))) => Ok(found),
        (None, None) => Err("there is no type"),
    }
}

/// Keeps the value of a key that may stand there once.
fn set<T>(slot: &mut Option<T>, value: T, at: usize) -> Result<(), DecodeError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(error_at(at, "this key stands there twice")),
    }
}

fn error_at(at: usize, reason: Refused) -> DecodeError {
    DecodeError::new(Format::Json, at, reason)
}
