//! ARNs that clients name state machines by, and the definitions behind them: nothing panics, and
//! what is read of an ARN is part of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use states::machines::arn::{MachineArn, Qualifier};
use states::machines::{Kind, check, references};

fuzz_target!(|text: &str| {
    if let Ok(arn) = MachineArn::parse(text) {
        assert!(text.starts_with(&arn.machine));
        if let Some(Qualifier::Alias(name)) = &arn.qualifier {
            assert!(text.contains(name));
        }
        let again = MachineArn::parse(&arn.machine).expect("the machine's own ARN");
        assert_eq!((again.machine, again.qualifier), (arn.machine, None));
    }
    let _ = check::diagnose(text, Kind::Express);
    let _ = references::of(text);
});
