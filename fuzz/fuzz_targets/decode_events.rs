//! Event streams as a client reads them, whole and in pieces.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use model::event_stream::{Decoder, Event, EventStream};
use model::lambda::InvokeWithResponseStreamResponseEvent as LambdaEvent;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, body)) = bytes.split_first() else {
        return;
    };
    let _ = EventStream::<LambdaEvent>::from_body(Bytes::copy_from_slice(body));
    let mut decoder = Decoder::default();
    for piece in body.chunks(usize::from(*size).max(1)) {
        decoder.push(piece);
        while let Ok(Some(message)) = decoder.next() {
            let _ = LambdaEvent::from_message(&message);
            // What was read can be written again.
            let mut again = Decoder::default();
            again.push(&message.encode());
            assert_eq!(again.next(), Ok(Some(message)));
        }
    }
});
