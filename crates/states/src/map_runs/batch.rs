//! Items that share a child: `ItemBatcher`.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itembatcher.html>

use asl::failure::{Failure, names};
use asl::machine::MAX_DATA_BYTES;
use asl::machine::distributed::Batcher;
use serde_json::Value;

use super::record::Input;

/// Makes inputs of children, of one item each or of several.
#[derive(Debug)]
pub struct Batches {
    several: Option<Several>,
}

#[derive(Debug)]
struct Several {
    max_items: u32,
    max_bytes: usize,
    /// The beginning of each input, up to the first item.
    head: String,
    text: String,
    items: u32,
}

impl Batches {
    pub fn new(batcher: Option<&Batcher>) -> Result<Self, Failure> {
        let Some(batcher) = batcher else {
            return Ok(Self { several: None });
        };
        let max_items = positive("MaxItemsPerBatch", batcher.max_items)?;
        let max_bytes = positive("MaxInputBytesPerBatch", batcher.max_bytes)?;
        let mut head = String::from("{");
        if let Some(input) = &batcher.input {
            head.push_str("\"BatchInput\":");
            head.push_str(&input.to_string());
            head.push(',');
        }
        head.push_str("\"Items\":[");
        Ok(Self {
            several: Some(Several {
                max_items: max_items.unwrap_or(u32::MAX),
                max_bytes: max_bytes.map_or(MAX_DATA_BYTES, |bytes| {
                    usize::try_from(bytes)
                        .unwrap_or(MAX_DATA_BYTES)
                        .min(MAX_DATA_BYTES)
                }),
                head,
                text: String::new(),
                items: 0,
            }),
        })
    }

    /// Adds an item, and to `inputs` what is complete without it or with it.
    pub fn add(&mut self, item: &Value, inputs: &mut Vec<Input>) -> Result<(), Failure> {
        let item = item.to_string();
        let Some(several) = &mut self.several else {
            inputs.push(checked(1, item)?);
            return Ok(());
        };
        // With the comma before it and the two brackets behind.
        if several.text.len() + item.len() + 3 > several.max_bytes {
            inputs.extend(several.take()?);
        }
        if several.items == 0 {
            several.text.push_str(&several.head);
        } else {
            several.text.push(',');
        }
        several.text.push_str(&item);
        several.items += 1;
        if several.items >= several.max_items {
            inputs.extend(several.take()?);
        }
        Ok(())
    }

    /// What is left when there are no more items.
    pub fn finish(&mut self) -> Result<Option<Input>, Failure> {
        match &mut self.several {
            Some(several) => several.take(),
            None => Ok(None),
        }
    }
}

impl Several {
    fn take(&mut self) -> Result<Option<Input>, Failure> {
        if self.items == 0 {
            return Ok(None);
        }
        let mut text = std::mem::take(&mut self.text);
        text.push_str("]}");
        checked(std::mem::take(&mut self.items), text).map(Some)
    }
}

fn checked(items: u32, text: String) -> Result<Input, Failure> {
    if text.len() > MAX_DATA_BYTES {
        let cause = "The input of a child workflow execution exceeds 256 KiB.";
        return Err(Failure::new(names::DATA_LIMIT_EXCEEDED, cause));
    }
    Ok(Input { items, text })
}

fn positive(field: &str, given: Option<f64>) -> Result<Option<u32>, Failure> {
    let Some(number) = given else {
        return Ok(None);
    };
    if number < 1.0 {
        let cause = format!("field {field} must be positive");
        return Err(Failure::new(names::RUNTIME, cause));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and what is beyond the range becomes its end"
    )]
    let number = number as u32;
    Ok(Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn batches(max_items: Option<f64>, max_bytes: Option<f64>, input: Option<Value>) -> Batches {
        Batches::new(Some(&Batcher {
            max_items,
            max_bytes,
            input,
        }))
        .unwrap()
    }

    fn all(mut batches: Batches, items: &[Value]) -> Vec<(u32, Value)> {
        let mut inputs = Vec::new();
        for item in items {
            batches.add(item, &mut inputs).unwrap();
        }
        inputs.extend(batches.finish().unwrap());
        let read = |input: Input| (input.items, serde_json::from_str(&input.text).unwrap());
        inputs.into_iter().map(read).collect()
    }

    #[test]
    fn without_a_batcher_each_item_is_an_input() {
        let batches = Batches::new(None).unwrap();
        let inputs = all(batches, &[json!({"a": 1}), json!("b")]);
        assert_eq!(inputs, [(1, json!({"a": 1})), (1, json!("b"))]);
    }

    #[test]
    fn items_are_grouped_by_number_and_the_last_group_may_be_smaller() {
        let items: Vec<Value> = (0..5).map(|n| json!(n)).collect();
        let inputs = all(batches(Some(2.0), None, None), &items);
        let groups = [json!([0, 1]), json!([2, 3]), json!([4])];
        let expected: Vec<_> = groups.iter().map(|items| json!({"Items": items})).collect();
        let found: Vec<_> = inputs.iter().map(|(_, input)| input.clone()).collect();
        assert_eq!(found, expected);
        assert_eq!(inputs[2].0, 1);
    }

    #[test]
    fn batch_input_comes_before_the_items() {
        let mut batches = batches(Some(1.0), None, Some(json!({"x": 1})));
        let mut inputs = Vec::new();
        batches.add(&json!(7), &mut inputs).unwrap();
        assert_eq!(inputs[0].text, r#"{"BatchInput":{"x":1},"Items":[7]}"#);
    }

    #[test]
    fn inputs_do_not_exceed_the_bytes_of_a_batch() {
        // `{"Items":["aaaa","aaaa"]}` has 25 bytes.
        let items = vec![json!("aaaa"); 5];
        let inputs = all(batches(None, Some(25.0), None), &items);
        let sizes: Vec<u32> = inputs.iter().map(|(items, _)| *items).collect();
        assert_eq!(sizes, [2, 2, 1]);
        let inputs = all(batches(Some(100.0), Some(24.0), None), &items);
        assert_eq!(inputs.len(), 5);
        let items = vec![json!("x".repeat(100_000)); 3];
        let inputs = all(batches(Some(100.0), None, None), &items);
        assert_eq!(inputs.len(), 2);
    }

    #[test]
    fn number_and_bytes_can_be_reached_by_the_same_item() {
        let inputs = all(batches(Some(1.0), Some(12.0), None), &vec![json!(1); 3]);
        assert_eq!(inputs.len(), 3);
        assert!(inputs.iter().all(|(items, _)| *items == 1));
    }

    #[test]
    fn what_no_child_could_take_is_a_failure() {
        let mut batches = Batches::new(None).unwrap();
        let failure = batches
            .add(&json!("x".repeat(300_000)), &mut Vec::new())
            .unwrap_err();
        assert_eq!(failure.error.as_deref(), Some("States.DataLimitExceeded"));
        let none = Batcher {
            max_items: Some(0.0),
            max_bytes: None,
            input: None,
        };
        assert!(Batches::new(Some(&none)).is_err());
    }
}
