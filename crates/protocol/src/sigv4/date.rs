//! Signature dates: `20150830T123600Z`.

use jiff::civil::DateTime;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::TimeZone;
use model::Timestamp;

/// The basic ISO 8601 form in which a signature is dated.
pub(super) fn format(moment: Timestamp) -> String {
    moment.to_jiff().strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Reads the basic ISO 8601 form.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let is_basic = text.len() == 16 && text.is_ascii() && !text.contains([' ', '-', '+']);
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text)
        .ok()
        .filter(|_| is_basic)?;
    let moment = TimeZone::UTC.to_timestamp(civil).ok()?;
    Some(Timestamp::from_secs(moment.as_second()))
}

/// Reads a `Date` header.
pub(super) fn parse_http(text: &str) -> Option<Timestamp> {
    let moment = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::from_secs(moment.as_second()))
}
