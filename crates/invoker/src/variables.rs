//! The environment variables of a runtime process.
//! <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>

use std::collections::BTreeMap;

use crate::runtimes::Resolved;
use crate::{Credentials, Function};

/// Where a runtime finds its API, inside the environment.
pub(crate) const RUNTIME_API: &str = "127.0.0.1:9001";
pub(crate) const RUNTIME_API_PORT: u16 = 9001;
/// Where AWS SDKs find the services, inside the environment. An address, because SDKs make bucket
/// names part of a host name.
const ENDPOINT_URL: &str = "http://127.0.0.1:4566";
pub(crate) const ENDPOINT_PORT: u16 = 4566;
/// The descriptor that AWS uses for log frames.
pub(crate) const TELEMETRY_LOG_FD: i32 = 62;
/// Where SDKs ask for credentials in an environment that has them in no variable.
const CREDENTIALS_URI: &str = "http://127.0.0.1:9001/2021-04-23/credentials";

/// How an environment gets its credentials, which depends on what it is started for.
#[derive(Debug)]
pub(crate) enum Access<'a> {
    /// For invocations: by variables. With what AWS calls the initialization type.
    Keys(Credentials, &'static str),
    /// For a snapshot, in which keys would grow old: by request, with this token. Nor does
    /// anything else here tell one of the environments made from it from the others.
    Token(&'a str),
}

/// Builds them: the runtime's defaults, over these the function's own, over these the reserved
/// ones, which a function cannot change.
pub(crate) fn build(
    function: &Function,
    resolved: &Resolved,
    access: Access<'_>,
    log_stream: &str,
    has_log_fd: bool,
) -> Vec<(String, String)> {
    let mut variables: BTreeMap<String, String> = defaults()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    variables.extend(resolved.env.iter().cloned());
    variables.extend(function.environment.clone());
    for (name, value) in reserved(function, resolved, access, log_stream) {
        match value {
            Some(value) => variables.insert(name.to_owned(), value),
            None => variables.remove(name),
        };
    }
    if has_log_fd {
        variables.insert(
            "_LAMBDA_TELEMETRY_LOG_FD".into(),
            TELEMETRY_LOG_FD.to_string(),
        );
    }
    variables.into_iter().collect()
}

/// Those of an external extension: as the runtime's, without what concerns only the runtime.
/// <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html#runtimes-extensions-api-env>
pub(crate) fn build_for_extensions(
    function: &Function,
    resolved: &Resolved,
    access: Access<'_>,
) -> Vec<(String, String)> {
    let mut variables = build(function, resolved, access, "", false);
    variables
        .retain(|(name, _)| !name.starts_with('_') && !NOT_FOR_EXTENSIONS.contains(&name.as_str()));
    variables
}

const NOT_FOR_EXTENSIONS: &[&str] = &[
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "PWD",
];

fn defaults() -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        ("AWS_ENDPOINT_URL", ENDPOINT_URL),
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
        ("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:2000"),
        ("LANG", "en_US.UTF-8"),
        (
            "LD_LIBRARY_PATH",
            "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:\
             /var/task/lib:/opt/lib",
        ),
        (
            "PATH",
            "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        ),
        ("PWD", "/var/task"),
        ("TZ", ":UTC"),
        ("_AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1"),
        ("_AWS_XRAY_DAEMON_PORT", "2000"),
    ]
    .into_iter()
}

/// The reserved names; `None` for those that must be absent.
fn reserved(
    function: &Function,
    resolved: &Resolved,
    access: Access<'_>,
    log_stream: &str,
) -> Vec<(&'static str, Option<String>)> {
    let mut variables = common(function, resolved).to_vec();
    variables.extend(match access {
        Access::Keys(credentials, initialization_type) => {
            with_keys(function, credentials, initialization_type, log_stream)
        }
        Access::Token(token) => with_token(token),
    });
    variables
}

fn with_keys(
    function: &Function,
    credentials: Credentials,
    initialization_type: &str,
    log_stream: &str,
) -> [(&'static str, Option<String>); 8] {
    [
        ("AWS_ACCESS_KEY_ID", Some(credentials.access_key_id)),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", None),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", None),
        (
            "AWS_LAMBDA_INITIALIZATION_TYPE",
            Some(initialization_type.to_owned()),
        ),
        (
            "AWS_LAMBDA_LOG_GROUP_NAME",
            Some(function.log_group.clone()),
        ),
        ("AWS_LAMBDA_LOG_STREAM_NAME", Some(log_stream.to_owned())),
        ("AWS_SECRET_ACCESS_KEY", Some(credentials.secret_access_key)),
        ("AWS_SESSION_TOKEN", Some(credentials.session_token)),
    ]
}

/// The names of log group and stream are absent, as on AWS.
/// <https://docs.aws.amazon.com/lambda/latest/dg/snapstart-monitoring.html>
fn with_token(token: &str) -> [(&'static str, Option<String>); 8] {
    [
        ("AWS_ACCESS_KEY_ID", None),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", Some(token.to_owned())),
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            Some(CREDENTIALS_URI.to_owned()),
        ),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", Some("snap-start".into())),
        ("AWS_LAMBDA_LOG_GROUP_NAME", None),
        ("AWS_LAMBDA_LOG_STREAM_NAME", None),
        ("AWS_SECRET_ACCESS_KEY", None),
        ("AWS_SESSION_TOKEN", None),
    ]
}

fn common(function: &Function, resolved: &Resolved) -> [(&'static str, Option<String>); 16] {
    let text = |text: &str| Some(text.to_owned());
    [
        ("AWS_ACCESS_KEY", None),
        ("AWS_DEFAULT_REGION", text(&function.region)),
        ("AWS_EXECUTION_ENV", resolved.execution_env.clone()),
        (
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            Some(function.memory_mb.to_string()),
        ),
        ("AWS_LAMBDA_FUNCTION_NAME", text(&function.name)),
        ("AWS_LAMBDA_FUNCTION_VERSION", text(&function.version)),
        ("AWS_LAMBDA_LOG_FORMAT", text(function.log_format.as_str())),
        (
            "AWS_LAMBDA_LOG_LEVEL",
            function.application_log_level.clone(),
        ),
        ("AWS_LAMBDA_RUNTIME_API", text(RUNTIME_API)),
        ("AWS_REGION", text(&function.region)),
        ("AWS_SECRET_KEY", None),
        ("LAMBDA_RUNTIME_DIR", text("/var/runtime")),
        ("LAMBDA_TASK_ROOT", text("/var/task")),
        ("_HANDLER", text(&function.handler)),
        ("_LAMBDA_TELEMETRY_LOG_FD", None),
        ("_X_AMZN_TRACE_ID", None),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::Runtime;
    use crate::testing;

    fn resolved() -> Resolved {
        Resolved {
            program: "/usr/bin/python3".into(),
            args: Vec::new(),
            mounts: Vec::new(),
            env: vec![
                ("PATH".into(), "/p/bin:/bin".into()),
                ("AWS_EXECUTION_ENV".into(), "x".into()),
            ],
            exact: true,
            warning: None,
            execution_env: Some("AWS_Lambda_python3.12".into()),
            has_sdk: false,
            version: None,
            runtime: Runtime::parse("python3.12").unwrap(),
            archive: None,
        }
    }

    fn built(environment: &[(&str, &str)]) -> BTreeMap<String, String> {
        let credentials = Credentials {
            access_key_id: "AK".into(),
            ..Credentials::default()
        };
        built_with(environment, Access::Keys(credentials, "on-demand"))
    }

    fn built_with(environment: &[(&str, &str)], access: Access<'_>) -> BTreeMap<String, String> {
        let mut function = testing::function();
        function.environment = environment
            .iter()
            .map(|&(name, value)| (name.into(), value.into()))
            .collect();
        build(&function, &resolved(), access, "stream", true)
            .into_iter()
            .collect()
    }

    #[test]
    fn reserved_names_cannot_be_changed_by_the_function() {
        let variables = built(&[
            ("_HANDLER", "evil"),
            ("AWS_ACCESS_KEY_ID", "evil"),
            ("AWS_LAMBDA_RUNTIME_API", "evil"),
            ("_X_AMZN_TRACE_ID", "evil"),
            ("AWS_LAMBDA_LOG_LEVEL", "evil"),
        ]);
        assert!(
            !variables.values().any(|value| value == "evil"),
            "{variables:?}"
        );
        assert_eq!(variables["_HANDLER"], "app.handler");
        assert_eq!(variables["AWS_EXECUTION_ENV"], "AWS_Lambda_python3.12");
        assert_eq!(variables["_LAMBDA_TELEMETRY_LOG_FD"], "62");
    }

    #[test]
    fn snapshot_holds_no_keys_and_no_log_stream() {
        let variables = built_with(
            &[
                ("AWS_ACCESS_KEY_ID", "evil"),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "evil"),
                ("AWS_LAMBDA_LOG_STREAM_NAME", "evil"),
                ("AWS_LAMBDA_INITIALIZATION_TYPE", "evil"),
            ],
            Access::Token("secret"),
        );
        assert!(
            !variables.values().any(|value| value == "evil"),
            "{variables:?}"
        );
        for absent in [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_LAMBDA_LOG_GROUP_NAME",
            "AWS_LAMBDA_LOG_STREAM_NAME",
        ] {
            assert!(!variables.contains_key(absent), "{absent}");
        }
        assert_eq!(variables["AWS_LAMBDA_INITIALIZATION_TYPE"], "snap-start");
        assert_eq!(variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"], "secret");
        let uri = &variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"];
        assert!(uri.starts_with(&format!("http://{RUNTIME_API}/")), "{uri}");
    }

    #[test]
    fn extensions_have_the_functions_variables_but_not_the_runtimes() {
        let mut function = testing::function();
        function.environment.insert("DD_API_KEY".into(), "k".into());
        function.environment.insert("_PRIVATE".into(), "p".into());
        let access = Access::Keys(Credentials::default(), "on-demand");
        let variables: BTreeMap<_, _> = build_for_extensions(&function, &resolved(), access)
            .into_iter()
            .collect();
        assert_eq!(variables["DD_API_KEY"], "k");
        assert_eq!(variables["AWS_LAMBDA_RUNTIME_API"], RUNTIME_API);
        assert_eq!(variables["AWS_LAMBDA_FUNCTION_NAME"], "f");
        assert!(variables.contains_key("AWS_ACCESS_KEY_ID"));
        assert!(variables.contains_key("PATH"));
        for absent in [
            "_HANDLER",
            "_PRIVATE",
            "AWS_EXECUTION_ENV",
            "LAMBDA_TASK_ROOT",
        ] {
            assert!(!variables.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn keys_take_the_place_of_the_credentials_endpoint() {
        let variables = built(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "evil")]);
        assert_eq!(variables["AWS_ACCESS_KEY_ID"], "AK");
        assert_eq!(variables["AWS_LAMBDA_INITIALIZATION_TYPE"], "on-demand");
        assert_eq!(variables["AWS_LAMBDA_LOG_STREAM_NAME"], "stream");
        assert!(!variables.contains_key("AWS_CONTAINER_CREDENTIALS_FULL_URI"));
    }

    #[test]
    fn function_overrides_defaults_and_the_runtime_overrides_ours() {
        let variables = built(&[("TZ", "Europe/Berlin"), ("TEST_KEY", "TEST_VAL")]);
        assert_eq!(variables["TZ"], "Europe/Berlin");
        assert_eq!(variables["TEST_KEY"], "TEST_VAL");
        assert_eq!(variables["PATH"], "/p/bin:/bin");
        assert_eq!(variables["AWS_ENDPOINT_URL"], "http://127.0.0.1:4566");
        assert_eq!(variables["AWS_LAMBDA_LOG_FORMAT"], "Text");
    }
}
