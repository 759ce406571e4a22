//! Paging tokens. Clients hand them back as they are; anything else is refused.

use crate::Error;

/// A place between the events of a stream: before the first that is not less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) timestamp: i64,
    pub(crate) sequence: u64,
}

/// A token of GetLogEvents: where to go on, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventsToken {
    Forward(Place),
    Backward(Place),
}

impl EventsToken {
    pub(crate) fn encode(self) -> String {
        let (way, place) = match self {
            Self::Forward(place) => ('f', place),
            Self::Backward(place) => ('b', place),
        };
        let Place {
            timestamp,
            sequence,
        } = place;
        format!(
            "{way}/3{:019}{sequence:020}0000000000000000/s",
            timestamp.max(0)
        )
    }

    pub(crate) fn decode(token: &str) -> Result<Self, Error> {
        let parse = || {
            let (way, rest) = token.split_once("/3")?;
            let digits = rest.strip_suffix("0000000000000000/s")?;
            if digits.len() != 39 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let (timestamp, sequence) = digits.split_at(19);
            let place = Place {
                timestamp: timestamp.parse().ok()?,
                sequence: sequence.parse().ok()?,
            };
            match way {
                "f" => Some(Self::Forward(place)),
                "b" => Some(Self::Backward(place)),
                _ => None,
            }
        };
        parse().ok_or(Error::InvalidToken)
    }
}

/// Encodes the name that a page of a list ended with.
pub(crate) fn encode_name(kind: char, name: &str) -> String {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}{hex}")
}

pub(crate) fn decode_name(kind: char, token: &str) -> Result<String, Error> {
    let hex = token.strip_prefix(kind).ok_or(Error::InvalidToken)?;
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let bytes: Option<Vec<u8>> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or(Error::InvalidToken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_decoded_as_they_were_encoded() {
        let place = Place {
            timestamp: 1_700_000_000_000,
            sequence: u64::MAX,
        };
        for token in [
            EventsToken::Forward(place),
            EventsToken::Backward(Place::default()),
        ] {
            let text = token.encode();
            assert_eq!(EventsToken::decode(&text).unwrap(), token);
            assert_eq!(text.len(), "f/".len() + 56 + "/s".len());
        }
        assert_eq!(
            decode_name('g', &encode_name('g', "/aws/lambda/ä")).unwrap(),
            "/aws/lambda/ä"
        );
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "f/",
            "f/3/s",
            "x/3",
            "f/3+000000000000000000",
            "ünïcode",
        ] {
            assert!(EventsToken::decode(text).is_err(), "{text}");
        }
        for text in ["", "x61", "g6", "gzz", "gff"] {
            assert!(decode_name('g', text).is_err(), "{text}");
        }
    }
}
