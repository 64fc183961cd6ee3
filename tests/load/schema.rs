//! As much of JSON Schema as `docs/load.schema.json` uses; anything else in it is an error.

use serde_json::{Map, Value};

/// Fails unless `value` is as the schema says.
#[track_caller]
pub(crate) fn check(value: &Value) {
    let schema: Value = serde_json::from_str(include_str!("../../docs/load.schema.json")).unwrap();
    let mut wrong = Vec::new();
    validate(value, &schema, &schema, "report", &mut wrong);
    assert!(wrong.is_empty(), "{}\n{value:#}", wrong.join("\n"));
}

fn validate(value: &Value, schema: &Value, root: &Value, at: &str, wrong: &mut Vec<String>) {
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let path = rule.as_str().unwrap().trim_start_matches('#');
                validate(value, root.pointer(path).unwrap(), root, at, wrong);
            }
            "const" if value == rule => {}
            "enum" if rule.as_array().unwrap().contains(value) => {}
            "type" if is_of_type(value, rule) => {}
            "const" | "enum" | "type" => wrong.push(format!("{at}: {value} is not {rule}")),
            "required" => {
                for name in rule.as_array().unwrap() {
                    let is_there = value.get(name.as_str().unwrap()).is_some();
                    if !is_there && value.is_object() {
                        wrong.push(format!("{at}: {name} is missing"));
                    }
                }
            }
            "properties" | "items" => {}
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                for (name, inner) in value.as_object().unwrap_or(&Map::new()) {
                    let at = format!("{at}.{name}");
                    match known.and_then(|known| known.get(name)) {
                        Some(schema) => validate(inner, schema, root, &at, wrong),
                        None if rule == &Value::Bool(false) => {
                            wrong.push(format!("{at} is unknown"))
                        }
                        None => validate(inner, rule, root, &at, wrong),
                    }
                }
            }
            other => panic!("the schema uses {other}, which this test does not know"),
        }
        if keyword == "items" {
            for (place, inner) in value.as_array().into_iter().flatten().enumerate() {
                validate(inner, rule, root, &format!("{at}[{place}]"), wrong);
            }
        }
    }
}

fn is_of_type(value: &Value, types: &Value) -> bool {
    let is = |name: &Value| match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("{other}"),
    };
    match types {
        Value::Array(all) => all.iter().any(is),
        one => is(one),
    }
}

#[test]
fn the_check_fails_where_it_should() {
    let schema = serde_json::json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": { "a": { "type": ["integer", "null"] } }
    });
    let errors = |value: Value| {
        let mut wrong = Vec::new();
        validate(&value, &schema, &schema, "x", &mut wrong);
        wrong.len()
    };
    assert_eq!(errors(serde_json::json!({ "a": 1 })), 0);
    assert_eq!(errors(serde_json::json!({ "a": null })), 0);
    assert_eq!(errors(serde_json::json!({ "a": "1" })), 1);
    assert_eq!(errors(serde_json::json!({})), 1);
    assert_eq!(errors(serde_json::json!({ "a": 1, "b": 1 })), 1);
    assert_eq!(errors(serde_json::json!([])), 1);
}
