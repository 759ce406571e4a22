//! The values that conditions compare: numbers, dates, addresses and ARNs.

use std::net::IpAddr;

use clock::Timestamp;

/// A date as policies and requests write it: ISO 8601, with or without a time, or seconds since
/// the epoch.
pub fn date(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(Timestamp::from_secs(seconds));
    }
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        // Without seconds: `2020-04-01T00:00Z`
        17 if text.ends_with('Z') => format!("{}:00Z", &text.get(..16)?),
        _ => text.to_owned(),
    };
    whole.parse().ok()
}

pub fn number(text: &str) -> Option<f64> {
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

pub fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// A range of addresses: `203.0.113.0/24`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most)?,
            None => most,
        };
        Some(Self { address, bits })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let differing = match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros()
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        differing >= self.bits
    }
}

/// The six parts of an ARN; the last keeps its colons.
pub fn arn_parts(text: &str) -> Option<[&str; 6]> {
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next();
    let all = [next()?, next()?, next()?, next()?, next()?, next()?];
    (all[0] == "arn").then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_come_in_several_forms() {
        let moment = Timestamp::from_secs(1_585_699_200);
        for text in [
            "2020-04-01T00:00:00Z",
            "2020-04-01T00:00Z",
            "2020-04-01",
            "1585699200",
            "2020-04-01T02:00:00+02:00",
        ] {
            assert_eq!(date(text), Some(moment), "{text}");
        }
        assert_eq!(date("yesterday"), None);
        assert_eq!(date("ééééé"), None);
    }

    #[test]
    fn networks_contain_their_addresses() {
        let contains = |network: &str, address: &str| {
            Network::parse(network)
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(contains("203.0.113.0/24", "203.0.113.255"));
        assert!(!contains("203.0.113.0/24", "203.0.114.0"));
        assert!(contains("0.0.0.0/0", "1.2.3.4"));
        assert!(contains("10.0.0.1", "10.0.0.1"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert_eq!(Network::parse("10.0.0.0/33"), None);
    }
}
