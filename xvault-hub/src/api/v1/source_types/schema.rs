//! JSON Schemas of settings, from those that the API's own description has of the structs they are read into.

use serde_json::{Map, Value, json};
use xvault_core::SourceSettings;

use super::{SourceTypeForm, SourceTypeInfo};

/// The dialect.
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Where the description keeps its schemas, and a schema that stands alone its own.
const COMPONENTS: &str = "#/components/schemas/";
const DEFINITIONS: &str = "#/$defs/";

/// Words of field names that people write otherwise.
const WORDS: [(&str, &str); 6] =
    [("ssh", "SSH"), ("tls", "TLS"), ("ca", "CA"), ("ftp", "FTP"), ("sftp", "SFTP"), ("url", "URL")];

/// Every type of [`SourceSettings`], in their order.
pub(super) fn all() -> Vec<SourceTypeForm> {
    let document = serde_json::to_value(crate::api::openapi()).unwrap_or_default();
    let components = &document["components"]["schemas"];
    let types = components["SourceSettings"]["oneOf"].as_array();
    types.into_iter().flatten().filter_map(|one| form(components, one)).collect()
}

/// One of the variants: `{"type": …, "config": …}`.
fn form(components: &Value, variant: &Value) -> Option<SourceTypeForm> {
    let kind = variant["properties"]["type"]["enum"][0].as_str()?;
    let description = variant["description"].as_str().unwrap_or_default().to_owned();
    let name = variant["properties"]["config"]["$ref"].as_str()?.strip_prefix(COMPONENTS)?;
    let info = SourceTypeInfo {
        kind: kind.to_owned(),
        title: title(kind),
        description: description.clone(),
        operators_only: kind == "local",
    };
    let mut settings = components[name].clone();
    complete(&mut settings, kind, &description);
    let credential = credential(&settings);
    attach(&mut settings, components);
    Some(SourceTypeForm { info, settings, credential })
}

/// Adds what forms need and the description does not have: titles, defaults, and what goes with what.
fn complete(settings: &mut Value, kind: &str, description: &str) {
    settings["$schema"] = json!(DRAFT);
    settings["title"] = json!(title(kind));
    settings["description"] = json!(description);
    let defaults = defaults(settings, kind);
    for (field, schema) in settings["properties"].as_object_mut().into_iter().flatten() {
        schema["title"] = json!(title(field));
        // What may be null has it one step further in.
        if schema["description"].is_null() {
            schema["description"] = schema["oneOf"][0]["description"].clone();
        }
        if let Some(default) = defaults.get(field) {
            schema["default"] = default.clone();
        }
        if field == "paths" {
            schema["items"] = json!({ "type": "string", "minLength": 1, "maxLength": 4096 });
        }
        if field.ends_with("tls_ca") {
            schema["contentMediaType"] = json!("application/x-pem-file");
        }
    }
    if settings["properties"].get("use_ssh").is_some() {
        settings["if"] = json!({ "properties": { "use_ssh": { "const": true } }, "required": ["use_ssh"] });
        let text = json!({ "type": "string" });
        settings["then"] = json!({
            "properties": { "ssh_host": text, "ssh_username": text }, "required": ["ssh_host", "ssh_username"],
        });
    }
}

/// What a field is when nobody gives it: read from the settings that the least of a config becomes.
fn defaults(settings: &Value, kind: &str) -> Map<String, Value> {
    let required = settings["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let least: Map<_, _> = required
        .map(|field| {
            let is_list = settings["properties"][field]["type"] == "array";
            (field.to_owned(), if is_list { json!(["/x"]) } else { json!("x") })
        })
        .collect();
    let read: Option<SourceSettings> = serde_json::from_value(json!({ "type": kind, "config": least })).ok();
    let mut written = read.and_then(|settings| serde_json::to_value(settings).ok()).unwrap_or_default();
    match written["config"].take() {
        Value::Object(all) => {
            all.into_iter().filter(|(field, value)| !least.contains_key(field) && !value.is_null()).collect()
        }
        _ => Map::new(),
    }
}

/// What one logs in with, by the settings that say which secrets there are.
fn credential(settings: &Value) -> Option<Value> {
    let fields = &settings["properties"];
    let secret = |title: &str, description: &str| {
        json!({
            "type": "string", "title": title, "description": description, "minLength": 1, "writeOnly": true, "format": "password",
        })
    };
    let told = fields["use_password"]["description"].as_str()?;
    if fields.get("use_ssh").is_some() {
        let parts = json!({
            "password": secret("Password", "The database's password."),
            "ssh": secret("SSH secret", "The SSH account's password, or its private key."),
        });
        return Some(json!({
            "$schema": DRAFT, "title": "Credential", "description": told, "writeOnly": true,
            "oneOf": [
                secret("Secret", "The only one that there is: the database's password, or that of the SSH account or its private key."),
                {
                    "type": "object", "title": "Both secrets", "properties": parts, "required": ["password", "ssh"],
                    "additionalProperties": false,
                },
            ],
        }));
    }
    let mut only = secret("Credential", told);
    only["$schema"] = json!(DRAFT);
    Some(only)
}

/// Makes a schema stand alone: what it refers to comes along.
fn attach(schema: &mut Value, components: &Value) {
    let mut definitions = Map::new();
    let mut wanted = redirect(schema);
    while let Some(name) = wanted.pop() {
        if !definitions.contains_key(&name) {
            let mut definition = components[&name].clone();
            wanted.extend(redirect(&mut definition));
            definitions.insert(name, definition);
        }
    }
    if !definitions.is_empty() {
        schema["$defs"] = Value::Object(definitions);
    }
}

/// Lets references lead to the schema's own definitions; gives their names.
fn redirect(schema: &mut Value) -> Vec<String> {
    match schema {
        Value::Object(fields) => fields
            .iter_mut()
            .flat_map(|(key, value)| match value.as_str().and_then(|text| text.strip_prefix(COMPONENTS)) {
                Some(name) if key == "$ref" => {
                    let name = name.to_owned();
                    *value = json!(format!("{DEFINITIONS}{name}"));
                    vec![name]
                }
                _ => redirect(value),
            })
            .collect(),
        Value::Array(items) => items.iter_mut().flat_map(redirect).collect(),
        _ => Vec::new(),
    }
}

/// `ssh_host_key`: "SSH host key".
fn title(field: &str) -> String {
    let written =
        |word: &str| WORDS.iter().find(|(own, _)| *own == word).map_or(word, |(_, people)| people).to_owned();
    let text = field.split('_').map(written).collect::<Vec<_>>().join(" ");
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
