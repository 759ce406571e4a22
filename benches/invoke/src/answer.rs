//! Where an HTTP/1.1 answer ends, found without allocating.

use std::ops::Range;

use anyhow::bail;

/// Whether these bytes are a whole answer, and where its body lies in them. An answer other than 2xx, or one that names a
/// function error, is an error: a benchmark of failures is worth nothing.
pub fn body(answer: &[u8]) -> anyhow::Result<Option<Range<usize>>> {
    let Some(head) = find(answer, b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let lines = || answer[..head].split(|byte| *byte == b'\n');
    let header = |name: &str| lines().find_map(|line| value(line, name));
    let end = match header("content-length") {
        Some(length) => head + std::str::from_utf8(length)?.parse::<usize>()?,
        None if header("transfer-encoding").is_some_and(|how| how == b"chunked") => {
            match answer[head..].ends_with(b"0\r\n\r\n") {
                true => answer.len(),
                false => return Ok(None),
            }
        }
        None => bail!("an answer without a length"),
    };
    if answer.len() < end {
        return Ok(None);
    }
    if !answer.starts_with(b"HTTP/1.1 2") || header("x-amz-function-error").is_some() {
        bail!("refused: {}", String::from_utf8_lossy(&answer[..end]));
    }
    Ok(Some(head..end))
}

/// The string that a field of a JSON object has, if it needs no unescaping; the first field of that name at any depth.
pub fn field<'a>(json: &'a [u8], name: &str) -> Option<&'a str> {
    let mut rest = json;
    loop {
        let at = find(rest, name.as_bytes())?;
        rest = &rest[at + name.len()..];
        let Some(value) = rest.strip_prefix(b"\"") else {
            continue;
        };
        let value = value.trim_ascii_start().strip_prefix(b":");
        if let Some(value) = value.and_then(|value| value.trim_ascii_start().strip_prefix(b"\"")) {
            let end = value.iter().position(|byte| *byte == b'"')?;
            return std::str::from_utf8(&value[..end]).ok();
        }
    }
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn value<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    if !start.eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    rest.strip_prefix(b":").map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        for end in 0..answer.len() {
            assert_eq!(body(&answer[..end]).expect("no error"), None);
        }
        let range = body(answer).expect("no error").expect("whole");
        assert_eq!(&answer[range], b"abc");
    }

    #[test]
    fn a_chunked_answer_ends_with_an_empty_chunk() {
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        assert_eq!(body(&answer[..answer.len() - 1]).expect("no error"), None);
        assert!(body(answer).expect("no error").is_some());
    }

    #[test]
    fn an_error_or_a_failed_function_is_refused() {
        for head in [
            "HTTP/1.1 500 No",
            "HTTP/1.1 200 OK\r\nX-Amz-Function-Error: Unhandled",
        ] {
            let answer = format!("{head}\r\ncontent-length: 1\r\n\r\nx");
            assert!(body(answer.as_bytes()).is_err(), "{head}");
        }
    }

    #[test]
    fn a_field_is_read_with_and_without_spaces() {
        assert_eq!(field(br#"{"a":"b","c": "d"}"#, "c"), Some("d"));
        assert_eq!(field(br#"{"c":1,"a":"c"}"#, "a"), Some("c"));
        assert_eq!(field(br#"{"c":1}"#, "c"), None);
    }
}
