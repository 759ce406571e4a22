//! The statement that AWS makes of the parameters of AddPermission.

use model::lambda::AddPermissionInput;
use serde_json::{Map, Value, json};

use super::PolicyError;

const URL_ACTION: &str = "lambda:InvokeFunctionUrl";

/// The statement for the resource `arn`; the order of its members is AWS's.
pub fn statement(arn: &str, input: &AddPermissionInput) -> Result<Value, PolicyError> {
    if input.function_url_auth_type.is_some() && input.action != URL_ACTION {
        return Err(PolicyError::AuthTypeOfOtherAction);
    }
    let mut statement = json!({
        "Sid": input.statement_id,
        "Effect": "Allow",
        "Principal": principal(&input.principal, arn)?,
        "Action": input.action,
        "Resource": arn,
    });
    let condition = condition(input);
    if !condition.is_empty() {
        statement["Condition"] = Value::Object(condition);
    }
    Ok(statement)
}

fn condition(input: &AddPermissionInput) -> Map<String, Value> {
    let mut equal = Map::new();
    let mut require = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            equal.insert(key.to_owned(), json!(value));
        }
    };
    require("AWS:SourceAccount", input.source_account.as_deref());
    require(
        "lambda:EventSourceToken",
        input.event_source_token.as_deref(),
    );
    let auth_type = input.function_url_auth_type.as_ref();
    require(
        "lambda:FunctionUrlAuthType",
        auth_type.map(|kind| kind.as_str()),
    );
    require("aws:PrincipalOrgID", input.principal_org_id.as_deref());
    let mut condition = Map::new();
    if !equal.is_empty() {
        condition.insert("StringEquals".to_owned(), Value::Object(equal));
    }
    if let Some(source) = &input.source_arn {
        condition.insert("ArnLike".to_owned(), json!({ "AWS:SourceArn": source }));
    }
    if let Some(via_url) = input.invoked_via_function_url {
        let value = via_url.to_string();
        condition.insert(
            "Bool".to_owned(),
            json!({ "lambda:InvokedViaFunctionUrl": value }),
        );
    }
    condition
}

/// Whether an account or a service exists is not looked up; a name that cannot be one is refused.
fn principal(text: &str, arn: &str) -> Result<Value, PolicyError> {
    let partition = arn.split(':').nth(1).unwrap_or("aws");
    if text == "*" {
        return Ok(json!("*"));
    }
    if is_account(text) {
        return Ok(json!({ "AWS": format!("arn:{partition}:iam::{text}:root") }));
    }
    if text.starts_with("arn:") {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        return match parts.as_slice() {
            ["arn", _, "iam" | "sts", "", account, resource]
                if is_account(account) && !resource.is_empty() =>
            {
                Ok(json!({ "AWS": text }))
            }
            _ => Err(PolicyError::Principal),
        };
    }
    let service = [".amazonaws.com", ".amazonaws.com.cn", ".amazon.com"];
    if service.iter().any(|suffix| text.ends_with(suffix)) {
        return Ok(json!({ "Service": text }));
    }
    Err(PolicyError::Principal)
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:f";

    fn input(action: &str, principal: &str) -> AddPermissionInput {
        AddPermissionInput {
            statement_id: "s".into(),
            action: action.into(),
            principal: principal.into(),
            ..AddPermissionInput::default()
        }
    }

    #[test]
    fn the_statement_is_written_as_aws_writes_it() {
        let input = AddPermissionInput {
            source_arn: Some("arn:aws:s3:::bucket".into()),
            source_account: Some("123456789012".into()),
            principal_org_id: Some("o-1234567890".into()),
            function_url_auth_type: Some("NONE".into()),
            ..input("lambda:InvokeFunctionUrl", "*")
        };
        assert_eq!(
            statement(ARN, &input).unwrap().to_string(),
            r#"{"Sid":"s","Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunctionUrl","Resource":"arn:aws:lambda:us-east-1:123456789012:function:f","Condition":{"StringEquals":{"AWS:SourceAccount":"123456789012","lambda:FunctionUrlAuthType":"NONE","aws:PrincipalOrgID":"o-1234567890"},"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::bucket"}}}"#
        );
    }

    #[test]
    fn principals_are_told_apart() {
        let of = |text: &str| principal(text, ARN);
        let root = "arn:aws:iam::123456789012:root";
        assert_eq!(of("123456789012"), Ok(json!({ "AWS": root })));
        assert_eq!(of(root), Ok(json!({ "AWS": root })));
        assert_eq!(
            of("alexa-appkit.amazon.com"),
            Ok(json!({"Service": "alexa-appkit.amazon.com"}))
        );
        for text in [
            "invalid.nonaws.com",
            "1234",
            "arn:aws:s3:::bucket",
            "arn:aws:iam::1:root",
            "x",
        ] {
            assert_eq!(of(text), Err(PolicyError::Principal), "{text}");
        }
    }

    #[test]
    fn the_kind_of_authorisation_is_a_matter_of_urls() {
        let mut input = input("lambda:InvokeFunction", "*");
        input.function_url_auth_type = Some("NONE".into());
        assert_eq!(
            statement(ARN, &input).unwrap_err(),
            PolicyError::AuthTypeOfOtherAction
        );
        input.function_url_auth_type = None;
        input.invoked_via_function_url = Some(true);
        assert_eq!(
            statement(ARN, &input).unwrap()["Condition"],
            json!({"Bool": {"lambda:InvokedViaFunctionUrl": "true"}})
        );
    }
}
