//! JSON Schemas of settings, from those that the API's own description has of the structs they are read into.

use serde_json::{Map, Value, json};
use xvault_core::SourceSettings;

use super::{SourceTypeForm, SourceTypeInfo};

/// The dialect.
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Where the description keeps its schemas, and a schema that stands alone its own.
const COMPONENTS: &str = "#/components/schemas/";
const DEFINITIONS: &str = "#/$defs/";

/// Patterns: a name or an address, of which only IPv6 ones have colons, two of them at least; and what texts must not hold.
const HOST: &str = "^([^\\s/@:]*|[^\\s/@:]*:[^\\s/@:]*:[^\\s/@]*)$";
const WORD: &str = "^[^\\s\\u0000-\\u001f\\u007f-\\u009f]*$";
const NO_CONTROLS: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";
const NO_NUL: &str = "^[^\\u0000]*$";

/// Words of field and type names that people write otherwise.
const WORDS: [(&str, &str); 9] = [
    ("ssh", "SSH"),
    ("tls", "TLS"),
    ("ca", "CA"),
    ("ftp", "FTP"),
    ("sftp", "SFTP"),
    ("url", "URL"),
    ("postgres", "PostgreSQL"),
    ("mysql", "MySQL or MariaDB"),
    ("wordpress", "WordPress"),
];

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
    let credential = credential(&settings, kind);
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
        for (keyword, value) in limits(field, kind).as_object().into_iter().flatten() {
            schema[keyword] = value.clone();
        }
    }
    if settings["properties"].get("use_ssh").is_some() {
        settings["if"] = json!({ "properties": { "use_ssh": { "const": true } }, "required": ["use_ssh"] });
        let text = json!({ "type": "string" });
        settings["then"] = json!({
            "properties": { "ssh_host": text, "ssh_username": text }, "required": ["ssh_host", "ssh_username"],
        });
        let nothing = json!({ "type": "null" });
        settings["else"] = json!({
            "properties": { "ssh_host": nothing, "ssh_username": nothing, "ssh_host_key": nothing },
        });
    }
}

/// What the settings' own check asks of a field beyond its type, as far as a schema can say it. It never asks for more.
fn limits(field: &str, kind: &str) -> Value {
    let is_database = matches!(kind, "postgres" | "mysql");
    match field {
        "paths" => {
            let pattern = if kind == "local" { "^/[^\\u0000]*$" } else { NO_NUL };
            json!({ "items": { "type": "string", "minLength": 1, "maxLength": 4096, "pattern": pattern } })
        }
        "databases" | "schemas" | "tables" | "exclude_schemas" | "exclude_tables" => {
            json!({ "items": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": NO_NUL } })
        }
        "host" if is_database => json!({ "pattern": format!("^/\\S*$|{HOST}") }),
        "host" | "ssh_host" => json!({ "pattern": HOST }),
        "username" if is_database || kind == "ftp" => json!({ "pattern": NO_CONTROLS }),
        "username" | "ssh_username" => json!({ "pattern": WORD }),
        "tls_ca" => json!({
            "pattern": "-----BEGIN CERTIFICATE-----", "contentMediaType": "application/x-pem-file",
        }),
        _ => Value::Null,
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
fn credential(settings: &Value, kind: &str) -> Option<Value> {
    let fields = &settings["properties"];
    let secret = |title: &str, description: &str| {
        json!({
            "type": "string", "title": title, "description": description, "minLength": 1, "writeOnly": true, "format": "password",
        })
    };
    fields.get("use_password")?;
    if fields.get("use_ssh").is_some() {
        let told = "The database's password. With `use_ssh`, both secrets; or the SSH account's alone where `use_password` is false.";
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
    let told = match kind {
        "ftp" => "The account's password.",
        _ => "The account's private key; its password with `use_password`.",
    };
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
