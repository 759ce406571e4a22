use super::*;
use crate::extensions::Reason;

const NEVER: &str = "00000000-0000-4000-8000-000000000000";

fn external(extensions: &Extensions, name: &str, events: &[EventKind]) -> String {
    assert!(extensions.start(name));
    extensions.register(name, events.to_vec()).unwrap()
}

fn ready(extensions: &Extensions, id: &str) -> oneshot::Receiver<Arc<Event>> {
    match extensions.next(id) {
        Ok(Next::Wait(waiting)) => waiting,
        other => panic!("{other:?}"),
    }
}

fn invoke(extensions: &Extensions) {
    extensions.invoke("e1", &InvokeEvent::new("r1", "arn", 42, "Root=1-2-3"));
}

async fn is_pending(future: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(Duration::from_millis(5), future)
        .await
        .is_err()
}

#[tokio::test]
async fn init_ends_when_all_have_registered_and_asked_for_an_event() {
    let extensions = Extensions::default();
    assert!(extensions.start("a"));
    assert!(is_pending(extensions.registered()).await);
    let id = extensions.register("a", vec![EventKind::Invoke]).unwrap();
    extensions.registered().await;
    let internal = extensions.register("inside", Vec::new()).unwrap();
    assert!(extensions.close());
    let _waiting = ready(&extensions, &id);
    assert!(is_pending(extensions.ready()).await);
    let _other = ready(&extensions, &internal);
    extensions.ready().await;
    assert_eq!(
        extensions.register("late", Vec::new()),
        Err(Refusal::Closed)
    );
}

#[tokio::test]
async fn invocation_is_done_when_those_who_were_told_ask_for_more() {
    let extensions = Extensions::default();
    let told = external(&extensions, "told", &[EventKind::Invoke]);
    let other = external(&extensions, "other", &[EventKind::Shutdown]);
    let (waiting, _quiet) = (ready(&extensions, &told), ready(&extensions, &other));
    invoke(&extensions);
    let event: serde_json::Value = serde_json::from_str(&waiting.await.unwrap().body).unwrap();
    assert_eq!(
        event,
        serde_json::json!({
            "eventType": "INVOKE",
            "deadlineMs": 42,
            "requestId": "r1",
            "invokedFunctionArn": "arn",
            "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1-2-3"},
        })
    );
    assert!(is_pending(extensions.done()).await);
    let _again = ready(&extensions, &told);
    extensions.done().await;
}

#[tokio::test]
async fn event_for_a_broken_connection_is_found_by_the_next_request() {
    let extensions = Extensions::default();
    let id = external(&extensions, "a", &[EventKind::Invoke]);
    drop(ready(&extensions, &id));
    // Asked again before anything happened: it waits.
    drop(ready(&extensions, &id));
    invoke(&extensions);
    assert!(matches!(extensions.next(&id), Ok(Next::Event(event)) if event.id == "e1"));
    // The second request after the same event means that it is done.
    let _waiting = ready(&extensions, &id);
    extensions.done().await;
    assert_eq!(
        extensions.next(&id).unwrap_err(),
        Refusal::Transition {
            from: "Ready",
            to: "Ready",
            extension: id.clone(),
        }
    );
}

#[tokio::test]
async fn end_of_an_extension_breaks_the_environment_unless_it_is_ending() {
    let extensions = Extensions::default();
    external(&extensions, "a", &[]);
    extensions.exited("a", Exit::Code(0));
    let fault = extensions.broken().await;
    assert_eq!(
        (fault.error_type, &*fault.message),
        ("Extension.Crash", "exit code 0")
    );
    let ending = Extensions::default();
    external(&ending, "a", &[]);
    ending.expect_the_end();
    ending.exited("a", Exit::Signal(9));
    assert!(!ending.is_broken());
}

#[tokio::test]
async fn reported_error_gives_the_end_of_the_process_its_type() {
    let extensions = Extensions::default();
    let id = external(&extensions, "a", &[]);
    extensions.report(&id, Report::Init, "My.Error").unwrap();
    // Once more does not count.
    extensions.report(&id, Report::Init, "Other").unwrap();
    assert!(extensions.next(&id).is_err());
    extensions.exited("a", Exit::Code(7));
    let fault = extensions.broken().await;
    assert_eq!(
        (fault.error_type, &*fault.message),
        ("Extension.InitError", "exit status 7")
    );
    let standing = &extensions.standings()[0];
    assert_eq!(standing.state, "InitError");
    assert_eq!(standing.error_type.as_deref(), Some("My.Error"));
}

#[tokio::test]
async fn reported_error_counts_even_if_the_process_stays() {
    let extensions = Extensions::default();
    let id = external(&extensions, "a", &[]);
    let _waiting = ready(&extensions, &id);
    extensions.report(&id, Report::Exit, "My.Error").unwrap();
    let fault = extensions.broken_within(Duration::from_millis(1)).await;
    assert_eq!(fault.error_type, "Extension.ExitError");
    assert!(fault.message.contains("My.Error"));
}

#[test]
fn only_ten_extensions_are_admitted() {
    let extensions = Extensions::default();
    for number in 0..MAX_EXTENSIONS {
        extensions
            .register(&format!("i{number}"), Vec::new())
            .unwrap();
    }
    assert_eq!(extensions.register("i10", vec![]), Err(Refusal::TooMany));
    assert!(!extensions.start("external"));
    let standing = &extensions.standings()[0];
    assert_eq!(standing.error_type.as_deref(), Some("TooManyExtensions"));
    assert!(extensions.is_broken());
}

#[test]
fn names_are_taken_once_and_internal_ones_hear_nothing_of_the_end() {
    let extensions = Extensions::default();
    extensions.register("i", Vec::new()).unwrap();
    assert_eq!(
        extensions.register("i", Vec::new()),
        Err(Refusal::NameTaken)
    );
    assert_eq!(
        extensions.register("j", vec![EventKind::Shutdown]),
        Err(Refusal::ShutdownForInternal)
    );
    external(&extensions, "e", &[]);
    assert!(matches!(
        extensions.register("e", Vec::new()),
        Err(Refusal::Transition { .. })
    ));
    assert_eq!(
        extensions.next(NEVER).unwrap_err(),
        Refusal::Unknown(NEVER.into())
    );
    assert!(!extensions.wants_shutdown("i"));
}

#[tokio::test]
async fn end_reaches_those_who_asked_also_when_they_are_busy() {
    let extensions = Extensions::default();
    let waits = external(&extensions, "waits", &[EventKind::Shutdown]);
    let busy = external(
        &extensions,
        "busy",
        &[EventKind::Invoke, EventKind::Shutdown],
    );
    let (waiting, first) = (ready(&extensions, &waits), ready(&extensions, &busy));
    invoke(&extensions);
    first.await.unwrap();
    extensions.shut_down(Reason::Timeout, 9);
    let body = &waiting.await.unwrap().body;
    let event: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        event,
        serde_json::json!({"eventType": "SHUTDOWN", "shutdownReason": "TIMEOUT", "deadlineMs": 9})
    );
    assert!(matches!(extensions.next(&busy), Ok(Next::Event(_))));
}
