//! What is different between two documents, path by path.

use serde_json::Value;

use super::RESOURCE_VERSION;

/// One path that is different.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Change {
    /// Such as `spec.network.mtu`.
    pub path: String,
    /// The value before; none where the path is new.
    pub before: Option<Value>,
    /// The value after; none where the path is gone.
    pub after: Option<Value>,
}

/// Every path at which two values differ, in the order of their keys; not which stored version a document was read from. Lists are compared item by item.
pub fn diff(before: &Value, after: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", Some(before), Some(after), &mut changes);
    changes
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let is_told = |key: &&String| path != "metadata" || *key != RESOURCE_VERSION;
            let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
            for key in keys.filter(is_told) {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&inner, old.get(key), new.get(key), changes);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                compare(&format!("{path}[{index}]"), old.get(index), new.get(index), changes);
            }
        }
        (before, after) => {
            changes.push(Change { path: path.to_owned(), before: before.cloned(), after: after.cloned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_diff_names_what_was_added_changed_and_taken_away() {
        let before = json!({ "a": 1, "b": { "c": [1, 2] }, "d": true });
        let after = json!({ "a": 2, "b": { "c": [1] }, "e": {} });
        let paths: Vec<_> = diff(&before, &after).into_iter().map(|c| (c.path, c.before, c.after)).collect();
        let expected = [
            ("a", Some(json!(1)), Some(json!(2))),
            ("b.c[1]", Some(json!(2)), None),
            ("d", Some(json!(true)), None),
            ("e", None, Some(json!({}))),
        ];
        assert_eq!(paths, expected.map(|(path, before, after)| (path.to_owned(), before, after)));
        assert!(diff(&before, &before).is_empty());
    }
}
