//! Log lines with metrics in them.
#![no_main]

use clock::Timestamp;
use cloudwatch::emf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let now = Timestamp::from_secs(1_574_109_740);
    for datum in emf::find(line, now) {
        assert!(!datum.values.is_empty());
        assert!(datum.metric.dimensions.len() <= 30);
        assert!(datum.values.sum.is_finite());
    }
});
