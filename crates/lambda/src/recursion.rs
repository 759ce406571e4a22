//! Finds functions that call themselves without end, directly or through others.
//!
//! The trace header carries a lineage from call to call: the SDKs in a function pass it on, and so
//! do destinations, queues and topics. Its form is AWS's, `Lineage=REQUESTS:HASH:ROUNDS`: how many
//! invocations there were, a function that is watched, and how often it has come by again. AWS does
//! not say how it chooses the function to watch. Here it is chosen as in Brent's algorithm for
//! cycles: anew at every power of two, so that a loop is found however long the way into it was,
//! with a header that does not grow.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html>

use model::lambda as wire;
use serde::{Deserialize, Serialize};

/// A function may come by this often; AWS says "approximately 16".
pub const MAX_ROUNDS: u32 = 16;
/// AWS's own limit of the first number.
const MAX_REQUESTS: u32 = 32_767;
/// From here on a loop that has not shown itself is longer than what is watched.
const WATCH_ANEW: u32 = 64;
const FIELD: &str = "Lineage=";

/// What happens to a function in a loop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecursiveLoop {
    Allow,
    #[default]
    Terminate,
}

impl From<&wire::RecursiveLoop> for RecursiveLoop {
    /// The constraints of the interface have excluded all other values.
    fn from(wanted: &wire::RecursiveLoop) -> Self {
        match wanted {
            wire::RecursiveLoop::Allow => Self::Allow,
            _ => Self::Terminate,
        }
    }
}

impl From<RecursiveLoop> for wire::RecursiveLoop {
    fn from(configured: RecursiveLoop) -> Self {
        match configured {
            RecursiveLoop::Allow => Self::Allow,
            RecursiveLoop::Terminate => Self::Terminate,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lineage {
    requests: u32,
    hash: u32,
    rounds: u32,
}

/// The header for an invocation of a function, given the one that its caller brought; `None` if the
/// function has come by too often. A function that may loop leaves the lineage as it is.
pub fn advance(header: &str, function_arn: &str, configured: RecursiveLoop) -> Option<String> {
    let found = header
        .split(';')
        .find_map(|field| field.trim().strip_prefix(FIELD));
    let lineage = found.and_then(Lineage::parse);
    if configured == RecursiveLoop::Allow && lineage.is_some() {
        return Some(header.to_owned());
    }
    let hash = crc32fast::hash(function_arn.as_bytes());
    let next = lineage.map_or_else(|| Lineage::first(hash), |lineage| lineage.next(hash));
    (next.rounds < MAX_ROUNDS).then(|| next.put_into(header))
}

impl Lineage {
    fn first(hash: u32) -> Self {
        Self {
            requests: 1,
            hash,
            rounds: 0,
        }
    }

    fn next(self, hash: u32) -> Self {
        let requests = if self.requests >= MAX_REQUESTS {
            WATCH_ANEW
        } else {
            self.requests + 1
        };
        if self.hash == hash {
            let rounds = self.rounds + 1;
            return Self {
                requests,
                hash,
                rounds,
            };
        }
        if requests.is_power_of_two() && (self.rounds == 0 || requests >= WATCH_ANEW) {
            let rounds = 0;
            return Self {
                requests,
                hash,
                rounds,
            };
        }
        Self { requests, ..self }
    }

    /// Reads `1:fc3b4ff1:0`; anything else counts as no lineage.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split(':');
        let requests = parts.next()?.parse().ok()?;
        let hash = parts.next().filter(|hash| hash.len() == 8)?;
        let lineage = Self {
            requests,
            hash: u32::from_str_radix(hash, 16).ok()?,
            rounds: parts.next()?.parse().ok()?,
        };
        let valid = parts.next().is_none() && requests <= MAX_REQUESTS && lineage.rounds <= 255;
        valid.then_some(lineage)
    }

    /// The header with this lineage in place of its own.
    fn put_into(self, header: &str) -> String {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(header.len() + 32);
        for field in header.split(';').map(str::trim) {
            if !field.is_empty() && !field.starts_with(FIELD) {
                text.push_str(field);
                text.push(';');
            }
        }
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{FIELD}{}:{:08x}:{}",
            self.requests, self.hash, self.rounds
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOT: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";

    /// How many invocations of a sequence that repeats after `lead` go through.
    fn run(lead: &[&str], cycle: &[&str], configured: RecursiveLoop, limit: usize) -> usize {
        let mut header = ROOT.to_owned();
        let sequence = lead.iter().chain(cycle.iter().cycle());
        for (count, name) in sequence.take(limit).enumerate() {
            match advance(&header, name, configured) {
                Some(next) => header = next,
                None => return count,
            }
        }
        limit
    }

    #[test]
    fn a_function_that_calls_itself_runs_sixteen_times() {
        assert_eq!(run(&[], &["f"], RecursiveLoop::Terminate, 1000), 16);
    }

    #[test]
    fn longer_loops_end_however_they_are_entered() {
        for length in 1..=20 {
            let names: Vec<String> = (0..length).map(|n| format!("f{n}")).collect();
            let cycle: Vec<&str> = names.iter().map(String::as_str).collect();
            for lead in 0..5 {
                let before = ["a", "b", "c", "d", "e"];
                let ran = run(&before[..lead], &cycle, RecursiveLoop::Terminate, 100_000);
                assert!(ran < 100 * length + 100, "{lead} + {length}: {ran}");
                assert!(ran > 15 * length, "{lead} + {length}: {ran}");
            }
        }
    }

    #[test]
    fn a_chain_of_different_functions_never_ends() {
        let names: Vec<String> = (0..1000).map(|n| format!("f{n}")).collect();
        let chain: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(run(&chain, &["last"], RecursiveLoop::Terminate, 1000), 1000);
    }

    #[test]
    fn a_function_that_may_loop_loops() {
        assert_eq!(run(&[], &["f"], RecursiveLoop::Allow, 1000), 1000);
    }

    #[test]
    fn only_the_one_that_may_not_loop_is_stopped() {
        let (mut header, mut ran) = (ROOT.to_owned(), 0);
        loop {
            header = advance(&header, "free", RecursiveLoop::Allow).unwrap();
            match advance(&header, "bound", RecursiveLoop::Terminate) {
                Some(next) => (header, ran) = (next, ran + 1),
                None => break,
            }
        }
        assert!((16..=17).contains(&ran), "{ran}");
    }

    #[test]
    fn the_rest_of_the_header_stays() {
        let header = advance(
            &format!("{ROOT};Lineage=9:zz:1;Self=x"),
            "f",
            RecursiveLoop::Terminate,
        );
        let expected = format!("{ROOT};Self=x;Lineage=1:{:08x}:0", crc32fast::hash(b"f"));
        assert_eq!(header, Some(expected));
    }

    proptest! {
        #[test]
        fn any_header_advances_to_one_lineage(header in "\\PC{0,60}|[A-Za-z]{0,8}=[0-9a-f:;=]{0,30}") {
            if let Some(next) = advance(&header, "f", RecursiveLoop::Terminate) {
                prop_assert_eq!(next.matches(FIELD).count(), 1);
                prop_assert!(advance(&next, "g", RecursiveLoop::Terminate).is_some());
            }
        }
    }
}
