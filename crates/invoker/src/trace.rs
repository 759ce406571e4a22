//! X-Ray trace headers.

use clock::Timestamp;
use uuid::Uuid;

/// The `Lambda-Runtime-Trace-Id` of an invocation, and what REPORT says about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    pub header: String,
    /// Trace and segment, when sampled.
    pub sampled: Option<(String, String)>,
}

impl Trace {
    /// Passes the caller's trace on, or starts one: sampled if the function traces actively.
    pub fn of(incoming: Option<&str>, active: bool, now: Timestamp) -> Self {
        match incoming.filter(|header| field(header, "Root").is_some()) {
            Some(header) if field(header, "Sampled").is_some() => Self::sampled_as(header.into()),
            // The caller leaves the decision to the function.
            Some(header) => Self::sampled_as(format!("{header};Sampled={}", u8::from(active))),
            None => Self::sampled_as(fresh(active, now)),
        }
    }

    fn sampled_as(header: String) -> Self {
        let sampled = (field(&header, "Sampled") == Some("1")).then(|| {
            let root = field(&header, "Root").unwrap_or_default().to_owned();
            let segment = field(&header, "Parent").map_or_else(|| random_hex(16), str::to_owned);
            (root, segment)
        });
        Self { header, sampled }
    }
}

/// The trace header of an invocation: the caller's, if it brought a valid one, or a new one. An
/// [`Invocation`](crate::Invocation) that carries it keeps it.
pub fn trace_header(incoming: Option<&str>, active: bool, now: Timestamp) -> String {
    Trace::of(incoming, active, now).header
}

fn fresh(active: bool, now: Timestamp) -> String {
    let random = Uuid::new_v4().simple().to_string();
    let more = Uuid::new_v4().simple().to_string();
    // Version and variant bits of a UUID sit at fixed places; these slices avoid neither, but 24
    // hex digits keep more than 90 random bits.
    format!(
        "Root=1-{:08x}-{};Parent={};Sampled={}",
        now.as_secs(),
        &random[..24],
        &more[..16],
        u8::from(active),
    )
}

fn random_hex(digits: usize) -> String {
    let mut text = Uuid::new_v4().simple().to_string();
    text.truncate(digits);
    text
}

/// A field of `Root=1-…;Parent=…;Sampled=1`.
fn field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.split(';').find_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        (key == name && !value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_header_is_passed_through() {
        let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let trace = Trace::of(Some(header), false, Timestamp::default());
        assert_eq!(trace.header, header);
        let (root, segment) = trace.sampled.unwrap();
        assert_eq!(
            (root.as_str(), segment.as_str()),
            ("1-5759e988-bd862e3fe1be46a994272793", "53995c3f42cd8ad8")
        );
    }

    #[test]
    fn new_trace_carries_the_time_and_is_sampled_only_if_active() {
        let now = Timestamp::from_secs(0x5759_e988);
        let trace = Trace::of(None, false, now);
        assert!(
            trace.header.starts_with("Root=1-5759e988-"),
            "{}",
            trace.header
        );
        assert_eq!(field(&trace.header, "Root").unwrap().len(), 35);
        assert_eq!(field(&trace.header, "Parent").unwrap().len(), 16);
        assert_eq!(field(&trace.header, "Sampled"), Some("0"));
        assert_eq!(trace.sampled, None);
        assert!(Trace::of(Some("nonsense"), true, now).sampled.is_some());
    }
}
