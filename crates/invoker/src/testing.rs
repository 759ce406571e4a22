//! Fixtures of the unit tests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Function, LogFormat};

pub(crate) fn function() -> Function {
    Function {
        arn: "arn:aws:lambda:eu-central-1:000000000000:function:f".into(),
        name: "f".into(),
        version: "$LATEST".into(),
        account: "000000000000".into(),
        region: "eu-central-1".into(),
        revision_id: "r1".into(),
        runtime: "python3.12".into(),
        handler: "app.handler".into(),
        memory_mb: 128,
        timeout: Duration::from_secs(3),
        ephemeral_mb: 512,
        environment: BTreeMap::new(),
        code_dir: PathBuf::from("/nonexistent"),
        layer_dirs: Vec::new(),
        role: "arn:aws:iam::000000000000:role/r".into(),
        log_group: "/aws/lambda/f".into(),
        log_format: LogFormat::Text,
        application_log_level: None,
        system_log_level: None,
        tracing_active: false,
        snap_start: false,
        code_sha256: String::new(),
        development: None,
    }
}
