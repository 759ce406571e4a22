use super::*;
use crate::map_runs::objects::memory::{Kept, objects};
use asl::definition::Resource;
use serde_json::json;

fn reader(action: &str, arguments: Value, config: Value, max_items: Option<f64>) -> Reader {
    Reader {
        resource: Resource::parse(&format!("arn:aws:states:::s3:{action}")).unwrap(),
        arguments,
        config,
        max_items,
    }
}

fn who() -> Who {
    Who {
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        role_arn: "arn:aws:iam::123456789012:role/r".into(),
    }
}

fn kept(objects: &[(&str, &str)]) -> Kept {
    let kept = Kept::default();
    for (key, text) in objects {
        let place = ("b".to_owned(), (*key).to_owned());
        kept.lock().unwrap().insert(place, text.as_bytes().to_vec());
    }
    kept
}

async fn all(mut source: Source) -> Result<Vec<Item>, Unreadable> {
    let mut items = Vec::new();
    while source.next(&mut items).await? {}
    Ok(items)
}

async fn read(kept: &Kept, reader: &Reader) -> Result<Vec<Item>, Unreadable> {
    let source = Source::open(reader, objects(kept, 5), who()).await?;
    all(source).await
}

fn values(items: &[Item]) -> Value {
    items.iter().map(|item| item.value.clone()).collect()
}

#[tokio::test]
async fn arrays_and_objects_of_the_state_are_datasets() {
    let many: Value = (0..1_200).collect();
    let items = all(Source::data(Arc::new(many.clone()))).await.unwrap();
    assert_eq!(values(&items), many);
    assert_eq!(&*items[0].source, "STATE_DATA");
    let items = all(Source::data(Arc::new(json!({"a": 1, "b": 2}))))
        .await
        .unwrap();
    assert_eq!(items[1].key.as_deref(), Some("b"));
    assert!(
        all(Source::data(Arc::new(json!([]))))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn object_is_read_up_to_the_most_items() {
    let kept = kept(&[("f.json", "[1,2,3,4]")]);
    let arguments = json!({"Bucket": "b", "Key": "f.json"});
    let config = json!({"InputType": "JSON"});
    let two = reader("getObject", arguments.clone(), config.clone(), Some(2.0));
    let items = read(&kept, &two).await.unwrap();
    assert_eq!(values(&items), json!([1, 2]));
    assert_eq!(&*items[0].source, "S3://b/f.json");
    let items = read(&kept, &reader("getObject", arguments, config, None)).await;
    assert_eq!(values(&items.unwrap()), json!([1, 2, 3, 4]));
}

#[tokio::test]
async fn missing_object_is_told_in_the_words_of_s3() {
    let arguments = json!({"Bucket": "b", "Key": "no"});
    let config = json!({"InputType": "JSON"});
    let refused = read(&kept(&[]), &reader("getObject", arguments, config, None)).await;
    let failure = Failure::from(refused.unwrap_err());
    assert_eq!(failure.error.as_deref(), Some("States.ItemReaderFailed"));
    assert!(failure.cause.unwrap().contains("NoSuchKey"));
}

#[tokio::test]
async fn listing_gives_what_s3_says_of_each_object() {
    let kept = kept(&[("p/1", "xy"), ("p/2", ""), ("q", "")]);
    let arguments = json!({"Bucket": "b", "Prefix": "p/"});
    let items = read(
        &kept,
        &reader("listObjectsV2", arguments, Value::Null, None),
    )
    .await;
    let items = items.unwrap();
    let expected = json!({"Etag": "\"e\"", "Key": "p/1", "LastModified": 1_789_180_622.0,
        "Size": 2, "StorageClass": "STANDARD"});
    assert_eq!(items[0].value, expected);
    assert_eq!(&*items[0].source, "S3://b");
    assert_eq!(items.len(), 2);
}

#[tokio::test]
async fn listed_objects_are_opened_and_follow_one_another() {
    let kept = kept(&[("p/1.jsonl", "1\n2"), ("p/", ""), ("p/2.jsonl", "3\n")]);
    let config = json!({"InputType": "JSONL", "Transformation": "LOAD_AND_FLATTEN"});
    let arguments = json!({"Bucket": "b", "Prefix": "p/"});
    let items = read(&kept, &reader("listObjectsV2", arguments, config, None))
        .await
        .unwrap();
    assert_eq!(values(&items), json!([1, 2, 3]));
    assert_eq!(&*items[2].source, "S3://b/p/2.jsonl");
}

#[tokio::test]
async fn inventory_is_followed_to_its_files() {
    let manifest = r#"{"destinationBucket": "arn:aws:s3:::b", "fileFormat": "CSV",
        "fileSchema": "Bucket, Key", "files": [{"key": "1.csv"}, {"key": "2.csv"}]}"#;
    let kept = kept(&[
        ("manifest.json", manifest),
        ("1.csv", "\"s\",\"k1\"\n"),
        ("2.csv", "\"s\",\"k2\"\n\"s\",\"k3\"\n"),
    ]);
    let arguments = json!({"Bucket": "b", "Key": "manifest.json"});
    let config = json!({"InputType": "MANIFEST"});
    let items = read(&kept, &reader("getObject", arguments, config, None))
        .await
        .unwrap();
    let keys: Vec<_> = items
        .iter()
        .map(|item| item.value["Key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["k1", "k2", "k3"]);
}
