//! Whole documents, as clients and services write them.

use policy::{Context, Decision, Document, MAX_DOCUMENT_BYTES, ParseError, Principal, Request};
use proptest::prelude::*;
use serde_json::{Value, json};

const FUNCTION: &str = "arn:aws:lambda:us-east-1:123456789012:function:f";

fn document(statements: Value) -> Result<Document, ParseError> {
    Document::parse(&json!({"Version": "2012-10-17", "Statement": statements}).to_string())
}

fn decide(document: &Document, principal: &Principal, action: &str, context: &Context) -> Decision {
    document.evaluate(&Request {
        principal,
        action,
        resource: FUNCTION,
        context,
    })
}

fn allow(principal: Value) -> Value {
    json!({
        "Sid": "s", "Effect": "Allow", "Principal": principal,
        "Action": "lambda:InvokeFunction", "Resource": FUNCTION,
    })
}

#[test]
fn a_service_may_act_for_its_own_resource_only() {
    let mut statement = allow(json!({"Service": "s3.amazonaws.com"}));
    statement["Condition"] = json!({
        "StringEquals": {"AWS:SourceAccount": "123456789012"},
        "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"},
    });
    let document = document(json!([statement])).unwrap();
    let s3 = Principal::service("s3.amazonaws.com");
    let context = |bucket: &str| {
        Context::new()
            .with("aws:SourceAccount", "123456789012")
            .with("aws:SourceArn", format!("arn:aws:s3:::{bucket}"))
    };
    let action = "lambda:InvokeFunction";
    assert_eq!(
        decide(&document, &s3, action, &context("bucket")),
        Decision::Allow
    );
    assert_eq!(
        decide(&document, &s3, action, &context("other")),
        Decision::NoMatch
    );
    assert_eq!(
        decide(&document, &s3, action, &Context::new()),
        Decision::NoMatch
    );
    let sns = Principal::service("sns.amazonaws.com");
    assert_eq!(
        decide(&document, &sns, action, &context("bucket")),
        Decision::NoMatch
    );
}

#[test]
fn one_that_denies_outweighs_all_that_allow() {
    let mut deny = allow(json!({"AWS": "arn:aws:iam::123456789012:user/mallory"}));
    deny["Effect"] = json!("Deny");
    deny["Sid"] = json!("d");
    deny["Action"] = json!("lambda:*");
    let document = document(json!([allow(json!("*")), deny])).unwrap();
    let user = |name: &str| Principal::aws(format!("arn:aws:iam::123456789012:user/{name}"));
    let decide = |name: &str, action: &str| decide(&document, &user(name), action, &Context::new());
    assert_eq!(decide("alice", "lambda:InvokeFunction"), Decision::Allow);
    assert_eq!(decide("mallory", "lambda:InvokeFunction"), Decision::Deny);
    assert_eq!(decide("mallory", "LAMBDA:getfunction"), Decision::Deny);
    assert_eq!(decide("alice", "lambda:GetFunction"), Decision::NoMatch);
}

#[test]
fn negated_elements_are_about_all_others() {
    let document = document(json!({
        "Effect": "Deny",
        "NotPrincipal": {"AWS": "123456789012"},
        "NotAction": ["lambda:Get*", "lambda:List*"],
        "NotResource": "arn:aws:lambda:us-east-1:123456789012:function:open",
    }))
    .unwrap();
    let here = Principal::aws("arn:aws:iam::123456789012:root");
    let there = Principal::aws("arn:aws:iam::210987654321:root");
    let nothing = Context::new();
    assert_eq!(
        decide(&document, &here, "lambda:InvokeFunction", &nothing),
        Decision::NoMatch
    );
    assert_eq!(
        decide(&document, &there, "lambda:InvokeFunction", &nothing),
        Decision::Deny
    );
    assert_eq!(
        decide(&document, &there, "lambda:GetFunction", &nothing),
        Decision::NoMatch
    );
}

#[test]
fn a_statement_of_an_identity_names_no_principal() {
    let document = document(json!([{
        "Effect": "Allow", "Action": "*",
        "Resource": "arn:aws:lambda:*:*:function:${aws:PrincipalTag/team, 'f'}",
    }]))
    .unwrap();
    assert!(!document.names_principals());
    let caller = Principal::Anonymous;
    assert_eq!(
        decide(&document, &caller, "lambda:GetFunction", &Context::new()),
        Decision::Allow
    );
    let tagged = Context::new().with("aws:PrincipalTag/team", "other");
    assert_eq!(
        decide(&document, &caller, "lambda:GetFunction", &tagged),
        Decision::NoMatch
    );
}

#[test]
fn an_open_statement_is_public() {
    let public =
        |statement: Value| document(json!([statement])).unwrap().statements()[0].is_public();
    assert!(public(allow(json!("*"))));
    assert!(public(allow(json!({"AWS": ["*"]}))));
    assert!(!public(allow(json!({"AWS": "123456789012"}))));
    let mut narrowed = allow(json!("*"));
    narrowed["Condition"] = json!({"StringEquals": {"aws:SourceAccount": "123456789012"}});
    assert!(!public(narrowed));
}

#[test]
fn what_is_no_document_is_refused() {
    let parse = |value: Value| Document::parse(&value.to_string()).unwrap_err();
    assert_eq!(Document::parse("{"), Err(ParseError::Json));
    assert_eq!(
        Document::parse(&" ".repeat(MAX_DOCUMENT_BYTES + 1)),
        Err(ParseError::TooLong)
    );
    assert_eq!(parse(json!([])), ParseError::Syntax);
    assert_eq!(parse(json!({"Version": "2012-10-17"})), ParseError::Syntax);
    assert_eq!(
        parse(json!({"Version": "2020-01-01", "Statement": []})),
        ParseError::Version
    );
    assert_eq!(
        parse(json!({"Extra": 1, "Statement": []})),
        ParseError::Syntax
    );
    let with = |name: &str, value: Value| {
        let mut statement = allow(json!("*"));
        statement[name] = value;
        document(json!([statement])).unwrap_err()
    };
    assert_eq!(with("Effect", json!("Maybe")), ParseError::Effect);
    assert_eq!(with("Principal", json!("someone")), ParseError::Principal);
    assert_eq!(with("NotPrincipal", json!("*")), ParseError::Syntax);
    assert_eq!(with("Action", json!([])), ParseError::NoActions);
    assert_eq!(
        with("Action", json!("InvokeFunction")),
        ParseError::ActionWithoutVendor
    );
    assert_eq!(with("Resource", json!([])), ParseError::NoResources);
    assert_eq!(with("Resource", json!("${open")), ParseError::Syntax);
    assert_eq!(
        with("Condition", json!({"Like": {"k": "v"}})),
        ParseError::ConditionOperator("Like".into())
    );
    let twice = document(json!([allow(json!("*")), allow(json!("*"))]));
    assert_eq!(twice.unwrap_err(), ParseError::SidNotUnique);
}

proptest! {
    #[test]
    fn parsing_and_evaluating_never_panic(text in "\\PC{0,200}", action in "\\PC{0,30}") {
        let statement = json!([{
            "Effect": "Allow", "Principal": {"AWS": text}, "Action": ["*"], "Resource": "*",
            "Condition": {
                "StringLike": {"k": "*"}, "DateEqualsIfExists": {"d": "2020"},
                "IpAddressIfExists": {"i": "::/0"},
            },
        }]);
        let context = Context::new()
            .with("k", text.clone())
            .with("d", text.clone())
            .with("i", text.clone());
        let _ = Document::parse(&text);
        if let Ok(document) = document(statement) {
            decide(&document, &Principal::aws(text), &action, &context);
        }
    }

    #[test]
    fn adding_a_denial_of_everything_denies_everything(
        actions in proptest::collection::vec("[a-z]{1,4}:[A-Za-z*?]{1,6}", 1..4),
        action in "[a-z]{1,4}:[A-Za-z]{1,6}",
    ) {
        let allowed = json!({"Effect": "Allow", "Principal": "*", "Action": actions, "Resource": "*"});
        let denied = json!({"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"});
        let document = document(json!([allowed, denied])).unwrap();
        let decision = decide(&document, &Principal::Anonymous, &action, &Context::new());
        prop_assert_eq!(decision, Decision::Deny);
    }
}
