//! Bodies in the `aws-chunked` encoding: chunks that may be signed, and trailers behind them.
//!
//! ```text
//! 400;chunk-signature=0055…     the size in hexadecimal
//! …1024 bytes…
//! 0;chunk-signature=b6c6…
//! x-amz-checksum-crc32:AAAAAA==
//! x-amz-trailer-signature:63bd…
//! (an empty line)
//! ```
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::Stream;
use protocol::sigv4::ChunkSigner;
use sha2::{Digest as _, Sha256};

use crate::contents::Body;
use crate::{Error, Result};

/// What signs chunks; `None` if signatures are not looked at.
pub type Signing = Option<ChunkSigner>;

const MAX_LINE_BYTES: usize = 4 << 10;
const MAX_TRAILER_BYTES: usize = 8 << 10;

/// Reads the encoding, in pieces of any size.
struct Decoder {
    state: State,
    line: Vec<u8>,
    signing: Signing,
    /// The hash of the chunk so far, if signatures are looked at.
    hash: Sha256,
    signature: String,
    trailers: String,
    trailers_signed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Data { left: u64 },
    DataEnd,
    Trailer,
    Done,
}

impl Decoder {
    fn new(signing: Signing) -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            signing,
            hash: Sha256::new(),
            signature: String::new(),
            trailers: String::new(),
            trailers_signed: false,
        }
    }

    /// Takes `input`, and gives the data in it.
    fn decode(&mut self, mut input: Bytes, data: &mut VecDeque<Bytes>) -> Result<()> {
        while !input.is_empty() {
            match self.state {
                State::Data { left } => {
                    let size = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let piece = input.split_to(size);
                    if self.signing.is_some() {
                        self.hash.update(&piece);
                    }
                    data.push_back(piece);
                    self.state = match left - size as u64 {
                        0 => State::DataEnd,
                        left => State::Data { left },
                    };
                }
                State::Done => return Err(malformed("there are bytes behind its end")),
                State::Head | State::DataEnd | State::Trailer => self.line(&mut input)?,
            }
        }
        Ok(())
    }

    fn line(&mut self, input: &mut Bytes) -> Result<()> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(input.len(), |end| end + 1);
        if self.line.len() + taken > MAX_LINE_BYTES {
            return Err(malformed("a line is too long"));
        }
        self.line.extend_from_slice(&input[..taken]);
        input.advance(taken);
        if end.is_none() {
            return Ok(());
        }
        let line = std::mem::take(&mut self.line);
        let text = std::str::from_utf8(&line).map_err(|_| malformed("a line is not text"))?;
        let text = text.trim_end_matches(['\r', '\n']);
        match self.state {
            State::Head => self.head(text),
            State::DataEnd if text.is_empty() => self.chunk_ends(),
            State::DataEnd => Err(malformed("a chunk is longer than it says")),
            State::Trailer => self.trailer(text),
            State::Data { .. } | State::Done => Ok(()),
        }
    }

    fn head(&mut self, text: &str) -> Result<()> {
        let (size, extension) = text.split_once(';').unwrap_or((text, ""));
        let digits = size.trim();
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = u64::from_str_radix(digits, 16).ok().filter(|_| plain);
        let size = size.ok_or_else(|| malformed("the size of a chunk is no number"))?;
        let signature = extension.trim().strip_prefix("chunk-signature=");
        signature
            .unwrap_or_default()
            .clone_into(&mut self.signature);
        if size > 0 {
            self.state = State::Data { left: size };
            return Ok(());
        }
        self.state = State::Trailer;
        self.check_chunk()
    }

    fn chunk_ends(&mut self) -> Result<()> {
        self.state = State::Head;
        self.check_chunk()
    }

    fn check_chunk(&mut self) -> Result<()> {
        let Some(signing) = &mut self.signing else {
            return Ok(());
        };
        let hash = hex::encode(self.hash.finalize_reset());
        if signing.check_chunk(&hash, &self.signature) {
            return Ok(());
        }
        Err(Error::SignatureDoesNotMatch)
    }

    fn trailer(&mut self, text: &str) -> Result<()> {
        if text.is_empty() {
            self.state = State::Done;
            return Ok(());
        }
        let pair = text.split_once(':');
        let (name, value) = pair.ok_or_else(|| malformed("a trailer has no value"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name == "x-amz-trailer-signature" {
            let signing = self.signing.as_mut();
            let right = signing.is_none_or(|signing| signing.check_trailers(&self.trailers, value));
            self.trailers_signed = true;
            return if right {
                Ok(())
            } else {
                Err(Error::SignatureDoesNotMatch)
            };
        }
        if self.trailers.len() + text.len() > MAX_TRAILER_BYTES {
            return Err(malformed("the trailers are too long"));
        }
        self.trailers.push_str(&format!("{name}:{value}\n"));
        Ok(())
    }

    fn ended(&self) -> Result<()> {
        if self.signing.is_some() && !self.trailers.is_empty() && !self.trailers_signed {
            return Err(Error::SignatureDoesNotMatch);
        }
        match self.state {
            State::Done => Ok(()),
            // Some clients leave out the last empty line.
            State::Trailer if self.line.is_empty() => Ok(()),
            _ => Err(Error::IncompleteBody),
        }
    }

    fn find(&self, name: &str) -> Option<&str> {
        let lines = self
            .trailers
            .lines()
            .filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(there, _)| *there == name);
        found.next().map(|(_, value)| value)
    }
}

fn malformed(reason: &'static str) -> Error {
    Error::MalformedChunks(reason)
}

/// The data of a body in this encoding. The trailer of the given name goes where it is wanted.
pub(crate) struct Chunked {
    body: Body,
    decoder: Decoder,
    data: VecDeque<Bytes>,
    trailer: Option<(String, Arc<OnceLock<String>>)>,
    over: bool,
}

impl Chunked {
    pub(crate) fn new(
        body: Body,
        signing: Signing,
        trailer: Option<(String, Arc<OnceLock<String>>)>,
    ) -> Self {
        Self {
            body,
            decoder: Decoder::new(signing),
            data: VecDeque::new(),
            trailer,
            over: false,
        }
    }

    fn end(&mut self) -> Result<()> {
        self.over = true;
        self.decoder.ended()?;
        if let Some((name, value)) = &self.trailer
            && let Some(found) = self.decoder.find(name)
        {
            // Set once; this is the only place.
            let _ = value.set(found.to_owned());
        }
        Ok(())
    }
}

impl Stream for Chunked {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(data) = self.data.pop_front() {
                return Poll::Ready(Some(Ok(data)));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let this = &mut *self;
            let done = match ready!(this.body.as_mut().poll_next(cx)) {
                None => this.end(),
                Some(Ok(input)) => this.decoder.decode(input, &mut this.data),
                Some(Err(error)) => Err(error),
            };
            if let Err(error) = done {
                self.over = true;
                self.data.clear();
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

pub(crate) fn fuzz(bytes: &[u8], piece: usize) {
    let whole = fuzz_pieces(bytes, bytes.len());
    assert_eq!(fuzz_pieces(bytes, piece), whole, "pieces do not matter");
    if let Some(data) = whole {
        assert!(data.len() <= bytes.len(), "data comes from the input");
    }
}

fn fuzz_pieces(bytes: &[u8], piece: usize) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(None);
    let mut data = VecDeque::new();
    for piece in bytes.chunks(piece.max(1)) {
        let piece = Bytes::copy_from_slice(piece);
        decoder.decode(piece, &mut data).ok()?;
        assert!(decoder.line.len() <= MAX_LINE_BYTES, "bounded");
    }
    decoder.ended().ok()?;
    Some(data.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"5\r\nhello\r\n6;chunk-signature=x\r\n world\r\n0\r\n\
                          x-amz-checksum-crc32:DUoRhQ==\r\n\r\n";

    fn decode(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Option<String>)> {
        let mut decoder = Decoder::new(None);
        let mut data = VecDeque::new();
        for piece in bytes.chunks(piece) {
            decoder.decode(Bytes::copy_from_slice(piece), &mut data)?;
        }
        decoder.ended()?;
        let data = data.into_iter().flatten().collect();
        Ok((
            data,
            decoder.find("x-amz-checksum-crc32").map(str::to_owned),
        ))
    }

    #[test]
    fn pieces_of_any_size_give_the_same_data() {
        for piece in 1..=BODY.len() {
            let (data, trailer) = decode(BODY, piece).unwrap();
            assert_eq!(data, b"hello world");
            assert_eq!(trailer.as_deref(), Some("DUoRhQ=="));
        }
    }

    #[test]
    fn a_body_that_breaks_off_is_incomplete() {
        for len in 0..BODY.len() {
            let whole = decode(&BODY[..len], 7).is_ok();
            // Behind the last chunk, trailers may be missing: then the checksum is.
            let zero = BODY.windows(5).position(|end| end == b"\n0\r\nx").unwrap() + 4;
            let trailer = BODY.len() - 2;
            assert_eq!(whole, len == zero || len == trailer, "{len}");
        }
    }

    #[test]
    fn what_is_not_framed_is_refused() {
        for bad in [
            &b"+5\r\nhello\r\n0\r\n\r\n"[..],
            b"x\r\n",
            b"\r\n",
            b"3\r\nhello\r\n0\r\n\r\n",
            b"0\r\n\r\nmore",
            b"0\r\nnonsense\r\n\r\n",
            b"ffffffffffffffffff\r\n",
        ] {
            assert!(decode(bad, 100).is_err(), "{bad:?}");
        }
        assert!(decode(&vec![b'0'; MAX_LINE_BYTES + 1], 100).is_err());
    }
}
