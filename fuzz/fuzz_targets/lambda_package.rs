//! Deployment packages: zip archives from anyone.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(outer) = tempfile::tempdir() else {
        return;
    };
    let inner = outer.path().join("inner");
    if std::fs::create_dir(&inner).is_ok() {
        lambda::fuzzing::unpack(bytes, &inner);
        let beside = std::fs::read_dir(outer.path()).map_or(0, Iterator::count);
        assert_eq!(beside, 1, "something was written outside of the package");
    }
});
