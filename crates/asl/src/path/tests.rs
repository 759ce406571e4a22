use serde_json::{Value, json};

use super::*;

fn document() -> Value {
    json!({
        "name": "north",
        "a-b": {"c d": 1},
        "items": [{"id": 0, "tag": "x"}, {"id": 1}, {"id": 2, "tag": "y"}],
        "users": [{"status": 0, "name": "a"}, {"status": 1.0, "name": "b"}],
        "nested": {"id": 9, "items": [[1, 2], [3]]},
    })
}

fn select(source: &str) -> Value {
    let path = Path::parse(source).unwrap();
    path.select(&document()).unwrap().into_value()
}

#[test]
fn definite_paths_lead_to_one_value() {
    for (source, expected) in [
        ("$.name", json!("north")),
        ("$['name']", json!("north")),
        ("$.a-b['c d']", json!(1)),
        ("$[\"a-b\"][\"c d\"]", json!(1)),
        ("$.items[0].id", json!(0)),
        ("$.items[-1].tag", json!("y")),
        ("$.nested.items[0][1]", json!(2)),
        ("$.items.length()", json!(3)),
    ] {
        assert_eq!(select(source), expected, "{source}");
        assert!(Path::parse(source).unwrap().is_definite(), "{source}");
    }
    assert_eq!(select("$"), document());
}

#[test]
fn indefinite_paths_give_arrays() {
    for (source, expected) in [
        ("$.items[*].id", json!([0, 1, 2])),
        ("$.items[*].tag", json!(["x", "y"])),
        ("$.items[1:].id", json!([1, 2])),
        ("$.items[:1].id", json!([0])),
        ("$.items[1:5].id", json!([1, 2])),
        ("$.items[-1:].id", json!([2])),
        ("$.items[0, 2].id", json!([0, 2])),
        ("$.items[7:9]", json!([])),
        ("$..id", json!([0, 1, 2, 9])),
        ("$.nested.items..[0]", json!([[1, 2], 1, 3])),
        ("$.a-b.*", json!([1])),
        ("$.nobody[*].x", json!([])),
    ] {
        assert_eq!(select(source), expected, "{source}");
        assert!(!Path::parse(source).unwrap().is_definite(), "{source}");
    }
}

#[test]
fn filters_choose_elements() {
    for (source, expected) in [
        ("$.users[?(@.status == 0)].name", json!(["a"])),
        ("$.users[?(@.status==1)].name", json!(["b"])),
        (
            "$.users[?(@.status >= 0 && @.name != 'a')].name",
            json!(["b"]),
        ),
        ("$.items[?(@.tag)].id", json!([0, 2])),
        ("$.items[?(!@.tag)].id", json!([1])),
        (
            "$.items[?(@.tag in ['x', 'z'] || @.id == 1)].id",
            json!([0, 1]),
        ),
        ("$.items[?(@.id < $.nested.items[0][1])].id", json!([0, 1])),
        ("$.items[?((@.tag == 'x'))].id", json!([0])),
    ] {
        assert_eq!(select(source), expected, "{source}");
    }
}

#[test]
fn missing_value_is_told_by_its_place() {
    for (source, at) in [
        ("$.nobody", "$['nobody']"),
        ("$.items[3]", "$['items'][3]"),
        ("$.items[-4].id", "$['items'][-4]"),
        ("$.name.first", "$['name']['first']"),
        ("$.nested.id.length()", "$['nested']['id'].length()"),
    ] {
        let path = Path::parse(source).unwrap();
        assert_eq!(path.select(&document()).unwrap_err().at, at);
    }
}

#[test]
fn roots_are_told_apart() {
    let root = |source| Path::parse(source).unwrap().root().clone();
    assert_eq!(root("$"), Root::Input);
    assert_eq!(root("$$.Execution.Id"), Root::Context);
    assert_eq!(root("$total[0]"), Root::Variable("total".into()));
    assert_eq!(root("$größe.x"), Root::Variable("größe".into()));
}

#[test]
fn only_names_and_indices_make_a_reference() {
    let reference = |source| Path::parse(source).unwrap().is_reference();
    assert!(reference("$.a['b'][0]"));
    for other in ["$.a[*]", "$..a", "$.a[1:2]", "$.a['b','c']", "$.a.length()"] {
        assert!(!reference(other), "{other}");
    }
}

#[test]
fn values_are_put_where_a_reference_leads() {
    let put = |source: &str, document| Path::parse(source).unwrap().put(document, json!(7));
    assert_eq!(put("$", json!({"a": 1})).unwrap(), json!(7));
    assert_eq!(
        put("$.b", json!({"a": 1})).unwrap(),
        json!({"a": 1, "b": 7})
    );
    assert_eq!(
        put("$.a.b.c", json!({})).unwrap(),
        json!({"a": {"b": {"c": 7}}})
    );
    assert_eq!(
        put("$.a[1]", json!({"a": [0, 0]})).unwrap(),
        json!({"a": [0, 7]})
    );
    assert_eq!(put("$.a", json!(null)).unwrap(), json!({"a": 7}));
    assert_eq!(put("$.a.b", json!({"a": 3})).unwrap_err().at, "$['a']");
    assert_eq!(
        put("$.a[2]", json!({"a": [0]})).unwrap_err().at,
        "$['a'][2]"
    );
}

#[test]
fn what_is_no_path_is_refused_with_its_place() {
    for (source, message) in [
        ("", "'$' expected at character 0 of ''"),
        ("a.b", "'$' expected at character 0 of 'a.b'"),
        ("$.", "a name expected at character 2 of '$.'"),
        ("$.a[", "an index expected at character 4 of '$.a['"),
        (
            "$.a['b]",
            "a closing quote expected at character 7 of '$.a['b]'",
        ),
        (
            "$.a b",
            "the end of the path expected at character 3 of '$.a b'",
        ),
        (
            "$.a.size()",
            "no function but length() expected at character 9 of '$.a.size()'",
        ),
        (
            "$.a[?(@.b == )]",
            "a value expected at character 13 of '$.a[?(@.b == )]'",
        ),
        (
            "$.length()..a",
            "nothing after length() expected at character 10 of '$.length()..a'",
        ),
        (
            "$.a[99999999999999999999]",
            "an index expected at character 24 of '$.a[99999999999999999999]'",
        ),
    ] {
        assert_eq!(Path::parse(source).unwrap_err().to_string(), message);
    }
}

#[test]
fn deep_filters_are_refused_instead_of_overflowing_the_stack() {
    let source = format!("$[?({}@.a{})]", "(".repeat(10_000), ")".repeat(10_000));
    assert!(Path::parse(&source).is_err());
    let source = format!("$[?({}@.a)]", "!".repeat(10_000));
    assert!(Path::parse(&source).is_err());
}

#[test]
fn endless_filters_and_paths_do_not_overflow_the_stack() {
    for sign in ["||", "&&"] {
        let terms = vec!["@"; 20_000].join(sign);
        let path = Path::parse(&format!("$[?({terms})]")).unwrap();
        assert_eq!(*path.select(&json!([1])).unwrap(), json!([1]));
    }
    let steps = ".a".repeat(30_000);
    assert!(Path::parse(&format!("${steps}")).is_err());
    assert!(Path::parse(&format!("$[?(@{steps})]")).is_err());
}

#[test]
fn what_would_fill_the_memory_is_refused() {
    let nested = (0..90).fold(json!(["x", 1]), |inner, _| json!([inner, 2]));
    let document = json!({"nested": nested, "all": vec!["x".repeat(100); 1000]});
    let each_with_all = "$.all[?(@ in $.all)].length()";
    assert_eq!(
        select_in(each_with_all, &document),
        Ok(json!(vec![100; 1000]))
    );
    let inside = (0..6).fold("@ == 'y'".to_owned(), |inner, _| {
        format!("$.all[?({inner})]")
    });
    let copies = vec!["0"; 15_000].join(",");
    for source in [
        format!("$.nested{}", "[0,0]".repeat(90)),
        format!("${}", "..*".repeat(90)),
        format!("$.nested[{copies}][{copies}]"),
        format!("$.all[?({inside} != 1)]"),
    ] {
        let refused = select_in(&source, &document).unwrap_err();
        assert!(refused.is_too_much, "{refused:?}");
    }
}

fn select_in(source: &str, document: &Value) -> Result<Value, NoResult> {
    let path = Path::parse(source).unwrap();
    path.select(document).map(Selected::into_value)
}
