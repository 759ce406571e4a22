//! Policy documents: whatever parses can be held against a request. The first line is what the
//! request has everywhere, the document follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::{Context, Document, Principal, Request};

fuzz_target!(|input: &str| {
    let (value, text) = input.split_once('\n').unwrap_or(("", input));
    let Ok(document) = Document::parse(text) else {
        return;
    };
    let context = Context::new()
        .with("aws:SourceArn", value)
        .with("aws:SourceIp", value)
        .with("aws:CurrentTime", value);
    for principal in [
        Principal::aws(value),
        Principal::service(value),
        Principal::Anonymous,
    ] {
        document.evaluate(&Request {
            principal: &principal,
            action: value,
            resource: value,
            context: &context,
        });
    }
});
