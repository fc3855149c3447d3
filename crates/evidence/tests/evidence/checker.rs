//! A checker for the part of JSON Schema that our schemas use. An unknown keyword is a panic, not a pass;
//! `docs/format/validate.py` checks the same files with a complete implementation.

use serde_json::Value;

/// Every place where `instance` breaks `schema`.
pub(crate) fn violations(schema: &Value, instance: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, instance, "$", &mut found);
    found
}

fn check(root: &Value, schema: &Value, instance: &Value, place: &str, found: &mut Vec<String>) {
    let Some(keywords) = schema.as_object() else {
        if schema == &Value::Bool(false) {
            found.push(format!("{place}: not allowed"));
        }
        return;
    };
    let mut fail = |problem: &str| found.push(format!("{place}: {problem}"));
    for (keyword, rule) in keywords {
        match keyword.as_str() {
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                check(root, root.pointer(pointer).unwrap(), instance, place, found);
                return;
            }
            "type" => {
                let types = rule.as_array().map_or(std::slice::from_ref(rule), Vec::as_slice);
                if !types.iter().any(|t| has_type(t.as_str().unwrap(), instance)) {
                    fail("has another type");
                }
            }
            "enum" if !rule.as_array().unwrap().contains(instance) => fail("is not one of the values"),
            "const" if rule != instance => fail("is not the value"),
            "pattern" if instance.as_str().is_some_and(|s| !matches(rule.as_str().unwrap(), s)) => {
                fail("pattern");
            }
            "minimum" if instance.is_number() && instance.as_f64() < rule.as_f64() => fail("is too small"),
            "maximum" if instance.as_f64() > rule.as_f64() => fail("is too large"),
            "minItems" if instance.as_array().is_some_and(|a| (a.len() as u64) < rule.as_u64().unwrap()) => {
                fail("short");
            }
            "maxItems" if instance.as_array().is_some_and(|a| a.len() as u64 > rule.as_u64().unwrap()) => {
                fail("long");
            }
            "required" => {
                for key in rule.as_array().unwrap() {
                    if instance.as_object().is_some_and(|o| !o.contains_key(key.as_str().unwrap())) {
                        fail(&format!("lacks {key}"));
                    }
                }
            }
            "anyOf" | "oneOf" => {
                let fits = |option: &&Value| {
                    let mut inner = Vec::new();
                    check(root, option, instance, place, &mut inner);
                    inner.is_empty()
                };
                let fitting = rule.as_array().unwrap().iter().filter(fits).count();
                if fitting == 0 || (keyword == "oneOf" && fitting > 1) {
                    fail(&format!("fits {fitting} of {keyword}"));
                }
            }
            "enum"
            | "const"
            | "pattern"
            | "minimum"
            | "maximum"
            | "minItems"
            | "maxItems"
            | "properties"
            | "patternProperties"
            | "additionalProperties"
            | "items"
            | "prefixItems"
            | "$schema"
            | "$defs"
            | "title"
            | "description"
            | "default"
            | "format" => (),
            unknown => panic!("the checker does not know {unknown}"),
        }
    }
    for (i, item) in instance.as_array().into_iter().flatten().enumerate() {
        if let Some(rule) =
            keywords.get("prefixItems").and_then(|rules| rules.get(i)).or(keywords.get("items"))
        {
            check(root, rule, item, &format!("{place}[{i}]"), found);
        }
    }
    for (key, value) in instance.as_object().into_iter().flatten() {
        let place = format!("{place}.{key}");
        let named = keywords.get("properties").and_then(|p| p.get(key));
        let mut patterns = keywords.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
        let pattern = patterns.find(|(pattern, _)| matches(pattern, key)).map(|(_, rule)| rule);
        if let Some(rule) = named.or(pattern).or(keywords.get("additionalProperties")) {
            check(root, rule, value, &place, found);
        }
    }
}

fn has_type(name: &str, instance: &Value) -> bool {
    match name {
        "null" => instance.is_null(),
        "boolean" => instance.is_boolean(),
        "integer" => instance.is_u64() || instance.is_i64(),
        "number" => instance.is_number(),
        "string" => instance.is_string(),
        "array" => instance.is_array(),
        "object" => instance.is_object(),
        unknown => panic!("the checker does not know the type {unknown}"),
    }
}

/// The patterns of our schemas, by hand.
fn matches(pattern: &str, text: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    match pattern {
        r"^pos_-[1-9][0-9]*$" => text.strip_prefix("pos_-").is_some_and(|n| digits(n) && !n.starts_with('0')),
        r"^(layer_[0-9]+(_final_norm)?|model)$" => {
            let layer = text.strip_prefix("layer_").map(|n| n.strip_suffix("_final_norm").unwrap_or(n));
            text == "model" || layer.is_some_and(digits)
        }
        r"^[0-9a-f]{64}$" => text.len() == 64 && text.bytes().all(|b| b"0123456789abcdef".contains(&b)),
        unknown => panic!("the checker does not know the pattern {unknown}"),
    }
}
