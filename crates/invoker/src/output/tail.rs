use bytes::Bytes;

/// `LogType=Tail` answers the last 4 KB of an invocation's log.
const TAIL_BYTES: usize = 4096;

/// The end of what was written so far.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    pub fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        // Trimmed only now and then, so that many short lines do not move 4 KB each.
        if self.bytes.len() > 4 * TAIL_BYTES {
            self.bytes.drain(..self.bytes.len() - TAIL_BYTES);
        }
    }

    pub fn into_bytes(mut self) -> Bytes {
        let excess = self.bytes.len().saturating_sub(TAIL_BYTES);
        self.bytes.drain(..excess);
        self.bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_exactly_the_last_four_kilobytes() {
        let mut tail = Tail::default();
        let mut all = String::new();
        for line in 0..3_000 {
            let line = format!("line {line}\n");
            tail.push(&line);
            all.push_str(&line);
        }
        assert_eq!(tail.into_bytes(), all.as_bytes()[all.len() - TAIL_BYTES..]);
    }
}
