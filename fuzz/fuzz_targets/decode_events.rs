//! Event streams as a client reads them, whole and in pieces.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use model::event_stream::{Decoder, Event, EventStream};
use model::lambda::InvokeWithResponseStreamResponseEvent as LambdaEvent;

/// CRC-32, bit by bit.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    });
    (!crc).to_be_bytes()
}

/// A frame whose checksums are right: no other is read, and libFuzzer cannot guess them.
fn framed(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let len = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = len(16 + headers.len() + payload.len()).to_vec();
    frame.extend(len(headers.len()));
    frame.extend(checksum(&frame));
    frame.extend(headers);
    frame.extend(payload);
    frame.extend(checksum(&frame));
    frame
}

fn read(body: &[u8], size: u8) {
    let _ = EventStream::<LambdaEvent>::from_body(Bytes::copy_from_slice(body));
    let mut decoder = Decoder::default();
    for piece in body.chunks(usize::from(size).max(1)) {
        decoder.push(piece);
        while let Ok(Some(message)) = decoder.next() {
            let _ = LambdaEvent::from_message(&message);
            // What was read can be written again.
            let mut again = Decoder::default();
            again.push(&message.encode());
            assert_eq!(again.next(), Ok(Some(message)));
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([size, headers], body)) = bytes.split_first_chunk() else {
        return;
    };
    read(body, *size);
    let (headers, payload) = body.split_at(usize::from(*headers).min(body.len()));
    read(&framed(headers, payload), *size);
});
