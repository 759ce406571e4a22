//! Schedules: what is read has a next time, or none, but never panics.
#![no_main]

use autoscaling::schedule::Schedule;
use clock::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, Option<&str>, i32)| {
    let (text, timezone, second) = input;
    let Ok(schedule) = Schedule::new(text, timezone) else {
        return;
    };
    let after = Timestamp::from_secs(i64::from(second).max(0));
    if let Some(next) = schedule.next_after(after, Timestamp::default()) {
        assert!(next > after);
    }
});
