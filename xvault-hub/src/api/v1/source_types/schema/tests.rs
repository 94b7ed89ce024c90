//! The schemas and the API's own validation, before the same configs; an implementation of JSON Schema that is not ours judges.

use std::io::Write;
use std::process::Stdio;

use xvault_testkit::tools::command;

use super::*;

/// Prints for each instance whether its schema accepts it. A schema that is none fails.
const WITNESS: &str = "
import json, sys
from jsonschema import Draft202012Validator as Draft
for case in json.load(sys.stdin):
    Draft.check_schema(case['schema'])
    print('yes' if Draft(case['schema']).is_valid(case['instance']) else 'no')
";

/// What an independent implementation says of each instance.
fn judged(cases: &[(&Value, &Value)]) -> Vec<bool> {
    let cases: Vec<_> =
        cases.iter().map(|(schema, instance)| json!({ "schema": schema, "instance": instance })).collect();
    let mut python = command("python3", ["-c", WITNESS]);
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(json!(cases).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "run `scripts/setup test`, which installs Python package jsonschema");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line == "yes").collect()
}

fn form_of(kind: &str) -> SourceTypeForm {
    all().into_iter().find(|form| form.info.kind == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn is_valid(kind: &str, config: &Value) -> bool {
    let settings: Result<SourceSettings, _> =
        serde_json::from_value(json!({ "type": kind, "config": config }));
    settings.is_ok_and(|settings| settings.validate().is_ok())
}

/// The least that this type takes.
fn least(form: &SourceTypeForm) -> Value {
    let required = form.settings["required"].as_array().unwrap().iter();
    let value = |field: &str| {
        if form.settings["properties"][field]["type"] == "array" { json!(["/srv"]) } else { json!("x") }
    };
    let fields: Map<_, _> =
        required.map(|field| (field.as_str().unwrap().to_owned(), value(field.as_str().unwrap()))).collect();
    fields.into()
}

fn with(config: &Value, change: &Value) -> Value {
    let mut config = config.clone();
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    config
}

#[test]
fn every_type_has_a_form_and_nothing_leads_outside_it() {
    let forms = all();
    let kinds: Vec<_> = forms.iter().map(|form| form.info.kind.as_str()).collect();
    for kind in ["local", "sftp", "ssh", "ftp", "postgres", "mysql", "wordpress"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    for form in &forms {
        let text = form.settings.to_string();
        assert!(!text.contains("#/components") && form.settings["$schema"] == DRAFT, "{text}");
        assert_eq!(form.settings["additionalProperties"], false, "{}", form.info.kind);
        assert!(!form.info.description.is_empty());
        for (field, schema) in form.settings["properties"].as_object().unwrap() {
            assert!(schema["title"].is_string() && schema["description"].is_string(), "{field}: {schema}");
            let bounded =
                schema["type"] != "integer" || (!schema["minimum"].is_null() && !schema["maximum"].is_null());
            assert!(bounded, "{field}: a number without bounds: {schema}");
        }
        let credential = form.credential.as_ref();
        assert_eq!(credential.is_none(), form.info.operators_only, "{}", form.info.kind);
        assert!(credential.is_none_or(|schema| schema["writeOnly"] == true), "{credential:?}");
    }
}

#[test]
fn what_the_api_takes_the_schema_takes_and_defaults_are_what_is_left_out() {
    let forms = all();
    let mut cases = Vec::new();
    for form in &forms {
        let config = least(form);
        let defaults: Map<_, _> = form.settings["properties"]
            .as_object()
            .unwrap()
            .iter()
            .filter_map(|(field, schema)| Some((field.clone(), schema.get("default")?.clone())))
            .collect();
        let read = |config: &Value| {
            serde_json::from_value::<SourceSettings>(json!({ "type": form.info.kind, "config": config }))
                .unwrap()
        };
        let spelt_out = with(&config, &defaults.into());
        assert_eq!(read(&config), read(&spelt_out), "{}", form.info.kind);
        cases.extend([config, spelt_out].map(|config| (form, config)));
    }
    let pin = format!("SHA256:{}", "a".repeat(43));
    let sftp = json!({ "host": "h", "port": 2222, "username": "u", "paths": ["a b", "/c"], "use_password": true, "excludes": ["*.tmp"], "host_key": pin });
    let hop = json!({ "use_ssh": true, "ssh_mode": "remote", "ssh_host": "h", "ssh_username": "u", "ssh_host_key": pin, "database": "d" });
    let ftp = json!({ "tls_mode": "implicit", "tls_fingerprint": vec!["AB"; 32].join(":"), "max_connections": 32, "port": null });
    let hook = json!({ "command": "true", "timeout_seconds": 3600, "on_failure": "warn" });
    let hooks = json!({ "hooks": { "before": hook, "after": { "command": "sync" } } });
    let site =
        with(&sftp, &json!({ "default_excludes": false, "dump_database": true, "ssh_mode": "tunnel" }));
    for (kind, config) in [
        ("wordpress", with(&site, &hooks)),
        ("wordpress", with(&site, &json!({ "ssh_mode": null }))),
        ("sftp", with(&sftp, &hooks)),
        ("ssh", with(&sftp, &json!({ "hooks": { "after": hook } }))),
        ("postgres", with(&least(&form_of("postgres")), &with(&hop, &hooks))),
        ("mysql", with(&least(&form_of("mysql")), &with(&hop, &hooks))),
        ("sftp", sftp.clone()),
        ("ssh", sftp),
        ("ftp", with(&least(&form_of("ftp")), &ftp)),
        ("postgres", with(&least(&form_of("postgres")), &hop)),
        (
            "postgres",
            json!({ "host": "h", "username": "u", "tls_mode": "verify-ca", "format": "plain", "lock_timeout_seconds": 1, "databases": ["a", "\u{1f600}"] }),
        ),
        ("mysql", with(&least(&form_of("mysql")), &with(&hop, &json!({ "tables": ["t"] })))),
        (
            "mysql",
            with(&least(&form_of("mysql")), &with(&hop, &json!({ "host": "/run/mysqld/mysqld.sock" }))),
        ),
        (
            "mysql",
            with(&least(&form_of("mysql")), &json!({ "host": "2001:db8::1", "username": "a b'\u{1f600}" })),
        ),
        ("ssh", with(&least(&form_of("ssh")), &json!({ "host": "fe80::1%eth0" }))),
        ("ftp", with(&least(&form_of("ftp")), &json!({ "host": "::ffff:192.0.2.1", "username": "a b" }))),
        (
            "postgres",
            with(
                &least(&form_of("postgres")),
                &json!({ "host": "x\u{fc}.example", "ssh_host": null, "use_ssh": false }),
            ),
        ),
    ] {
        cases.push((forms.iter().find(|form| form.info.kind == kind).unwrap(), config));
    }
    for (form, config) in &cases {
        assert!(is_valid(&form.info.kind, config), "{} {config}", form.info.kind);
    }
    let judged = judged(&cases.iter().map(|(form, config)| (&form.settings, config)).collect::<Vec<_>>());
    for ((form, config), accepted) in cases.iter().zip(judged) {
        assert!(accepted, "{} {config}", form.info.kind);
    }
}

#[test]
fn what_the_schema_refuses_the_api_refuses_and_common_mistakes_are_among_it() {
    let forms = all();
    let mut cases = Vec::new();
    let pin = format!("SHA256:{}", "a".repeat(43));
    for form in &forms {
        let config = least(form);
        let fields =
            form.settings["required"].as_array().unwrap().iter().map(|field| field.as_str().unwrap());
        for field in fields {
            let mut missing = config.clone();
            missing.as_object_mut().unwrap().remove(field);
            cases.extend(
                [missing, with(&config, &json!({ field: 7 })), with(&config, &json!({ field: null }))]
                    .map(|config| (form, config)),
            );
        }
        cases.push((form, with(&config, &json!({ "exlcudes": [] }))));
        if matches!(form.info.kind.as_str(), "sftp" | "ssh" | "wordpress") {
            cases.push((form, with(&config, &json!({ "username": "a b" }))));
        }
        if form.info.kind == "local" {
            cases.push((form, with(&config, &json!({ "paths": ["srv"] }))));
        }
        if form.settings["properties"].get("use_ssh").is_some() {
            for (field, value) in [("ssh_host", "h"), ("ssh_username", "u"), ("ssh_host_key", pin.as_str())] {
                cases.push((form, with(&config, &json!({ field: value }))));
                cases.push((form, with(&config, &json!({ field: value, "use_ssh": false }))));
            }
        }
        cases.push((form, json!([])));
        let properties = form.settings["properties"].as_object().unwrap();
        let through = json!({ "use_ssh": true, "ssh_host": "h", "ssh_username": "u" });
        let mut bad = |field: &str, value: Value| {
            if properties.contains_key(field) {
                // Else the field alone were refused.
                let config = if field.starts_with("ssh_") { with(&config, &through) } else { config.clone() };
                cases.push((form, with(&config, &json!({ field: value }))));
            }
        };
        for port in [json!(0), json!(65536), json!("22"), json!(-1), json!(2.5)] {
            bad("port", port.clone());
            bad("ssh_port", port);
        }
        for key in ["MD5:00", "SHA256:short", ""] {
            bad("host_key", json!(key));
            bad("ssh_host_key", json!(key));
        }
        for (field, value) in [
            ("host", json!("")),
            ("host", json!("a b")),
            ("host", json!("h".repeat(256))),
            ("host", json!("sftp://h")),
            ("host", json!("u@h")),
            ("host", json!("h:22")),
            ("host", json!("a/b")),
            ("ssh_host", json!("h:22")),
            ("ssh_host", json!("/h")),
            ("ssh_host", json!("a b")),
            ("ssh_username", json!("a b")),
            ("username", json!("")),
            ("username", json!("a\u{7}b")),
            ("tls_ca", json!("MIIB")),
            ("databases", json!([""])),
            ("databases", json!(["d".repeat(256)])),
            ("schemas", json!(["a\0b"])),
            ("tables", json!([""])),
            ("exclude_schemas", json!(["s".repeat(256)])),
            ("exclude_tables", json!([""])),
            ("paths", json!(["/a\0b"])),
            ("paths", json!([])),
            ("paths", json!([""])),
            ("paths", json!(vec!["/a"; 1001])),
            ("excludes", json!("*")),
            ("tls_mode", json!("maybe")),
            ("max_connections", json!(33)),
            ("tls_fingerprint", json!("AB")),
            ("use_password", json!("yes")),
            ("lock_timeout_seconds", json!(0)),
            ("ssh_mode", json!("both")),
            ("use_ssh", json!(true)),
            ("databases", json!("a")),
            ("default_excludes", json!("no")),
            ("dump_database", json!(1)),
            ("hooks", json!({ "before": "true" })),
            ("hooks", json!({ "before": {} })),
            ("hooks", json!({ "before": { "command": "" } })),
            ("hooks", json!({ "after": { "command": "c".repeat(4097) } })),
            ("hooks", json!({ "after": { "command": "true", "timeout_seconds": 0 } })),
            ("hooks", json!({ "after": { "command": "true", "timeout_seconds": 3601 } })),
            ("hooks", json!({ "after": { "command": "true", "on_failure": "ignore" } })),
            ("hooks", json!({ "after": { "command": "true", "more": 1 } })),
            ("hooks", json!({ "during": { "command": "true" } })),
        ] {
            bad(field, value);
        }
    }
    for (form, config) in &cases {
        assert!(!is_valid(&form.info.kind, config), "{} {config}", form.info.kind);
    }
    let judged = judged(&cases.iter().map(|(form, config)| (&form.settings, config)).collect::<Vec<_>>());
    for ((form, config), accepted) in cases.iter().zip(judged) {
        assert!(!accepted, "{} {config}", form.info.kind);
    }
}

#[test]
fn a_credential_is_a_text_or_two_for_a_database_behind_ssh() {
    let schema = |kind: &str| form_of(kind).credential.unwrap();
    let (ftp, database) = (schema("ftp"), schema("postgres"));
    let pair = json!({ "password": "a", "ssh": "b" });
    let cases = [
        (&ftp, json!("secret"), true),
        (&ftp, json!(""), false),
        (&ftp, pair.clone(), false),
        (&database, json!("secret"), true),
        (&database, pair, true),
        (&database, json!({ "password": "a" }), false),
        (&database, json!({ "password": "a", "ssh": "b", "more": "" }), false),
    ];
    let said = judged(&cases.iter().map(|(schema, instance, _)| (*schema, instance)).collect::<Vec<_>>());
    assert_eq!(said, cases.map(|(.., expected)| expected));
    assert!(form_of("local").credential.is_none());
}

#[test]
fn titles_are_for_people() {
    assert_eq!(
        ["ssh_host_key", "tls_ca", "use_password", "postgres", "wordpress"].map(title),
        ["SSH host key", "TLS CA", "Use password", "PostgreSQL", "WordPress"]
    );
}
