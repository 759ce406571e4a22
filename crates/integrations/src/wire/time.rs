//! Timestamps as the protocols write them.

use clock::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::{Number, Value};

use crate::catalog::TimestampFormat;

/// Reads what a workflow gives as a time: a text or seconds since the epoch.
pub fn given(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_f64().map(seconds),
        _ => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the cast saturates, which is a time far away"
)]
fn seconds(seconds: f64) -> Timestamp {
    Timestamp::from_micros((seconds * 1e6).round() as i64)
}

/// Reads what a service answered.
pub fn answered(value: &str, format: TimestampFormat) -> Option<Timestamp> {
    match format {
        TimestampFormat::Rfc822 => {
            let zoned = rfc2822::parse(value).ok()?;
            Some(Timestamp::from_micros(zoned.timestamp().as_microsecond()))
        }
        TimestampFormat::UnixMillis => value.parse().ok().map(Timestamp::from_millis),
        // Services are not always true to their format.
        TimestampFormat::Unix | TimestampFormat::Iso8601 => match value.parse::<f64>() {
            Ok(number) => Some(seconds(number)),
            Err(_) => value.parse().ok(),
        },
    }
}

/// As text, for headers, queries, forms and XML.
pub fn text(moment: Timestamp, format: TimestampFormat) -> String {
    match format {
        TimestampFormat::Iso8601 => iso(moment),
        TimestampFormat::Rfc822 => http_date(moment),
        TimestampFormat::Unix | TimestampFormat::UnixMillis => number(moment, format).to_string(),
    }
}

/// As a number, for JSON.
pub fn number(moment: Timestamp, format: TimestampFormat) -> Number {
    if format == TimestampFormat::UnixMillis {
        return moment.as_millis().into();
    }
    let whole = Number::from(moment.as_secs());
    if moment.as_micros() % 1_000_000 == 0 {
        return whole;
    }
    Number::from_f64(moment.as_secs_f64()).unwrap_or(whole)
}

/// Without a fraction if there is none, as Java writes it.
pub fn iso(moment: Timestamp) -> String {
    if moment.as_micros() % 1_000_000 == 0 {
        format!("{:.0}", moment.to_jiff())
    } else {
        moment.to_string()
    }
}

/// `Thu, 18 Apr 2024 06:27:01 GMT`.
pub fn http_date(moment: Timestamp) -> String {
    let date = moment.to_jiff().strftime("%a, %d %b %Y %H:%M:%S GMT");
    date.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_reads_what_it_writes() {
        let moment = Timestamp::from_secs(1_713_421_621);
        let formats = [
            (TimestampFormat::Iso8601, "2024-04-18T06:27:01Z"),
            (TimestampFormat::Rfc822, "Thu, 18 Apr 2024 06:27:01 GMT"),
            (TimestampFormat::Unix, "1713421621"),
            (TimestampFormat::UnixMillis, "1713421621000"),
        ];
        for (format, expected) in formats {
            assert_eq!(text(moment, format), expected);
            assert_eq!(answered(expected, format), Some(moment), "{expected}");
        }
        let fraction = Timestamp::from_millis(1_713_421_621_250);
        assert_eq!(iso(fraction), "2024-04-18T06:27:01.250Z");
        assert_eq!(
            number(fraction, TimestampFormat::Unix).to_string(),
            "1713421621.25"
        );
        assert_eq!(given(&1_713_421_621.into()), Some(moment));
        assert_eq!(given(&"2024-04-18T08:27:01+02:00".into()), Some(moment));
        assert_eq!(given(&"tomorrow".into()), None);
    }
}
