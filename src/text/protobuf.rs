//! The little of protobuf's wire format that a SentencePiece model needs: fields of a message, one after another.

/// The value of a field, by its wire type. Groups, which protobuf gave up long ago, are refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64,
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(format!("found {other:?}, expected bytes")),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "it is not UTF-8".to_owned())
    }

    pub(super) fn float(self) -> Result<f32, String> {
        match self {
            Value::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            other => Err(format!("found {other:?}, expected a float")),
        }
    }

    pub(super) fn varint(self) -> Result<u64, String> {
        match self {
            Value::Varint(value) => Ok(value),
            other => Err(format!("found {other:?}, expected an integer")),
        }
    }

    pub(super) fn bool(self) -> Result<bool, String> {
        self.varint().map(|value| value != 0)
    }
}

/// Calls `f` with the number and the value of each field of a message. An error if the message is damaged, or if `f` returns one.
pub(super) fn fields<'a>(
    mut message: &'a [u8],
    mut f: impl FnMut(u64, Value<'a>) -> Result<(), String>,
) -> Result<(), String> {
    let cut = || "the message is cut".to_owned();
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut message)?),
            1 => {
                message = message.split_first_chunk::<8>().ok_or_else(cut)?.1;
                Value::Fixed64
            }
            2 => {
                let len = usize::try_from(varint(&mut message)?).map_err(|_| cut())?;
                let (bytes, rest) = message.split_at_checked(len).ok_or_else(cut)?;
                message = rest;
                Value::Bytes(bytes)
            }
            5 => {
                let (bytes, rest) = message.split_first_chunk::<4>().ok_or_else(cut)?;
                message = rest;
                Value::Fixed32(*bytes)
            }
            kind => return Err(format!("field {} is of the wire type {kind}", key >> 3)),
        };
        if key >> 3 == 0 {
            return Err("there is a field 0".to_owned());
        }
        f(key >> 3, value)?;
    }
    Ok(())
}

/// Reads an integer off the front of `message`: in base 128, the lowest seven bits first, in at most ten bytes.
fn varint(message: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = message.split_first().ok_or("the message is cut")?;
        *message = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("an integer is longer than 64 bits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(message: &[u8]) -> Result<Vec<(u64, Value<'_>)>, String> {
        let mut found = Vec::new();
        fields(message, |number, value| {
            found.push((number, value));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn reads_every_wire_type() {
        let message = b"\x08\x96\x01\x12\x02hi\x1d\x00\x00\x80\x3f\x21\x01\x02\x03\x04\x05\x06\x07\x08";
        let found = all(message).unwrap();
        assert_eq!(
            found,
            [
                (1, Value::Varint(150)),
                (2, Value::Bytes(b"hi")),
                (3, Value::Fixed32(1f32.to_le_bytes())),
                (4, Value::Fixed64)
            ]
        );
        assert_eq!((found[1].1.text(), found[2].1.float()), (Ok("hi"), Ok(1.0)));
        assert_eq!(all(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").unwrap()[0].1, Value::Varint(u64::MAX));
    }

    #[test]
    fn refuses_what_is_cut_or_overlong() {
        for message in [
            &b"\x08"[..],
            b"\x08\x80",
            b"\x12\x03hi",
            b"\x1d\x00\x00\x80",
            b"\x21\x01\x02\x03\x04\x05\x06\x07",
            b"\x0b",
            b"\x00\x01",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x01",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01hi",
        ] {
            assert!(all(message).is_err(), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = all(&message);
        }
    }
}
