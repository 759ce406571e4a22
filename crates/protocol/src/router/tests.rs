use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use model::logs::{CreateLogGroupInput, CreateLogGroupOutput, operation};
use model::{Operation, lambda};

use super::*;
use crate::{Principal, PrincipalKind};

struct Logs;
struct Lambda;

mod create_log_group {
    use super::*;

    pub async fn run(
        _: &Logs,
        caller: &Caller,
        input: CreateLogGroupInput,
    ) -> Result<CreateLogGroupOutput, ApiError> {
        assert_eq!(caller.request_id, "request-1");
        match input.log_group_name.as_str() {
            "taken" => {
                let shape = &model::logs::error::RESOURCE_ALREADY_EXISTS;
                Err(ApiError::new(
                    shape,
                    "The specified log group already exists",
                ))
            }
            "broken" => Err(ApiError::internal("disk on fire")),
            _ => Ok(CreateLogGroupOutput::default()),
        }
    }
}

mod get_function {
    use super::*;

    pub async fn run(
        _: &Lambda,
        _: &Caller,
        input: lambda::GetFunctionInput,
    ) -> Result<lambda::GetFunctionOutput, ApiError> {
        let message = format!("Function not found: {}", input.function_name);
        Err(ApiError::new(&lambda::error::RESOURCE_NOT_FOUND, message))
    }
}

mod invoke {
    use super::*;

    pub async fn run(
        _: &Lambda,
        _: &Caller,
        input: lambda::InvokeInput,
    ) -> Result<lambda::InvokeOutput, ApiError> {
        Ok(lambda::InvokeOutput {
            status_code: Some(200),
            executed_version: input.qualifier,
            payload: input.payload,
            ..Default::default()
        })
    }
}

crate::operations! { Logs: "CreateLogGroup" => create_log_group::run }
crate::operations! { Lambda: "GetFunction" => get_function::run, "Invoke" => invoke::run }

fn router() -> Router {
    Router::builder()
        .service(Arc::new(Lambda))
        .service(Arc::new(Logs))
        .build()
}

fn caller() -> Caller {
    Caller {
        account: model::AccountId::DEVELOPMENT,
        region: "us-east-1".parse().unwrap(),
        principal: Principal {
            arn: String::new(),
            kind: PrincipalKind::Root,
        },
        access_key: None,
        request_id: "request-1".to_owned(),
    }
}

fn request(method: Method, uri: &str) -> request::Parts {
    Request::builder()
        .method(method)
        .uri(uri)
        .body(())
        .unwrap()
        .into_parts()
        .0
}

fn target(target: &str) -> request::Parts {
    let builder = Request::builder()
        .method(Method::POST)
        .uri("/")
        .header("x-amz-target", target);
    builder.body(()).unwrap().into_parts().0
}

async fn answer(request: request::Parts, body: &'static str) -> (http::response::Parts, String) {
    let router = router();
    let route = router.route(&request, None).unwrap();
    let body = Bytes::from_static(body.as_bytes());
    let (parts, body) = router
        .dispatch(&route, &request, body, &caller())
        .await
        .into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn invoke_passes_the_payload_through() {
    let path = "/2015-03-31/functions/hello/invocations?Qualifier=live";
    let (parts, body) = answer(request(Method::POST, path), "{\"a\": 1}").await;
    assert_eq!(parts.status, StatusCode::OK);
    assert_eq!(parts.headers["x-amz-executed-version"], "live");
    assert_eq!(parts.headers["x-amzn-requestid"], "request-1");
    assert_eq!(body, "{\"a\": 1}");
}

#[tokio::test]
async fn an_encoded_arn_is_one_segment() {
    let path = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Ah%3A%24LATEST";
    let (parts, body) = answer(request(Method::GET, path), "").await;
    assert_eq!(parts.status, StatusCode::NOT_FOUND);
    assert_eq!(
        parts.headers["x-amzn-errortype"],
        "ResourceNotFoundException"
    );
    let message = "Function not found: arn:aws:lambda:us-east-1:000000000000:function:h:$LATEST";
    assert_eq!(
        body,
        format!("{{\"Type\":\"User\",\"Message\":\"{message}\"}}")
    );
}

#[test]
fn an_encoded_slash_does_not_split_a_segment() {
    let found = router().route(
        &request(Method::GET, "/2015-03-31/functions/a%2Fcode"),
        None,
    );
    assert_eq!(found.unwrap().operation(), "GetFunction");
}

#[tokio::test]
async fn json_errors_name_their_type_in_the_body() {
    let request = target("Logs_20140328.CreateLogGroup");
    let (parts, body) = answer(request, "{\"logGroupName\": \"taken\"}").await;
    assert_eq!(parts.status, StatusCode::BAD_REQUEST);
    assert_eq!(parts.headers["content-type"], "application/x-amz-json-1.1");
    assert_eq!(
        body,
        "{\"__type\":\"ResourceAlreadyExistsException\",\
         \"message\":\"The specified log group already exists\"}"
    );
}

#[tokio::test]
async fn broken_constraints_answer_with_the_code_of_the_service() {
    let request = target("Logs_20140328.CreateLogGroup");
    let (parts, body) = answer(request, "{}").await;
    assert_eq!(parts.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        body,
        "{\"__type\":\"InvalidParameterException\",\"message\":\"1 validation error detected: \
         Value null at 'logGroupName' failed to satisfy constraint: Member must not be null\"}"
    );
}

#[tokio::test]
async fn the_cause_of_an_internal_error_stays_inside() {
    let request = target("Logs_20140328.CreateLogGroup");
    let (parts, body) = answer(request, "{\"logGroupName\": \"broken\"}").await;
    assert_eq!(parts.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!body.contains("fire"), "{body}");
}

#[tokio::test]
async fn an_operation_without_output_answers_an_empty_body() {
    let request = target("Logs_20140328.CreateLogGroup");
    let (parts, body) = answer(request, "{\"logGroupName\": \"new\"}").await;
    assert_eq!((parts.status, body.as_str()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn typed_calls_reach_the_same_function() {
    let input = CreateLogGroupInput {
        log_group_name: "taken".to_owned(),
        ..Default::default()
    };
    let error = router()
        .call::<operation::CreateLogGroup>(&caller(), input)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "ResourceAlreadyExistsException: The specified log group already exists"
    );
}

#[test]
fn an_operation_that_is_not_served_is_told_from_one_that_does_not_exist() {
    let router = router();
    let code = |request: &request::Parts, service: Option<&str>| {
        let error = router.route(request, service).unwrap_err();
        let shape = error.shape(None);
        (shape.code, shape.status)
    };
    let known = request(Method::POST, "/2015-03-31/event-source-mappings");
    assert_eq!(code(&known, None), ("NotImplementedException", 501));
    let known = target("Logs_20140328.StartQuery");
    assert_eq!(code(&known, None), ("NotImplementedException", 501));
    let unknown = target("Logs_20140328.Nonsense");
    assert_eq!(code(&unknown, None), ("UnknownOperationException", 400));
    let unknown = request(Method::GET, "/2015-03-31/nonsense");
    assert_eq!(
        code(&unknown, Some("lambda")),
        ("UnknownOperationException", 404)
    );
    assert_eq!(
        code(&unknown, None),
        ("MissingAuthenticationTokenException", 403)
    );
    let method = request(Method::PATCH, "/2015-03-31/functions/f");
    assert_eq!(
        code(&method, Some("lambda")),
        ("UnknownOperationException", 405)
    );
}

#[test]
fn oversized_bodies_get_the_error_of_their_operation() {
    let router = router();
    let route = router
        .route(
            &request(Method::POST, "/2015-03-31/functions/f/invocations"),
            None,
        )
        .unwrap();
    assert_eq!(route.max_body_bytes(), 6_291_456);
    assert_eq!(
        route.too_large(6_291_457).to_string(),
        "RequestTooLargeException: 6291457 byte payload is too large for the RequestResponse \
         invocation type (limit 6291456 bytes)"
    );
}

#[test]
fn rows_that_a_table_lacks_are_told() {
    let unserved = router().unserved();
    assert!(unserved.contains(&"CreateFunction") && unserved.contains(&"PutLogEvents"));
    assert!(!unserved.contains(&"Invoke") && !unserved.contains(&"CreateCapacityProvider"));
}

#[test]
fn odd_paths_find_nothing() {
    let router = router();
    for path in [
        "/",
        "//",
        "/2015-03-31/functions//invocations",
        "/%",
        "/2015-03-31/functions",
    ] {
        let _ = router
            .route(&request(Method::PUT, path), Some("lambda"))
            .unwrap_err();
    }
}

#[test]
fn every_operation_of_the_interface_is_found_at_its_own_path() {
    let model = lambda::operation::Invoke::SERVICE;
    let paths = Paths::new(model.operations);
    for (index, operation) in model.operations.iter().enumerate() {
        let uri = operation.uri.replace(['{', '}', '+'], "");
        let (path, query) = uri
            .split_once('?')
            .map_or((&*uri, None), |(path, query)| (path, Some(query)));
        assert_eq!(
            paths.find(&operation.method, path, query),
            Found::Operation(index),
            "{uri}"
        );
    }
}
