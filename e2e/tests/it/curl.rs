//! Requests as documents print them: real curl, a bearer token added.

use serde_json::Value;
use xvault_testkit::tools;

/// A user at a hub, at a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Curl {
    pub(crate) port: u16,
    pub(crate) token: String,
}

impl Curl {
    /// `curl -X METHOD URL`, with a body `-H "Content-Type: application/json" -d BODY`. The answer to a success.
    pub(crate) fn send(&self, method: &str, path: &str, body: Option<&str>) -> Value {
        let mut command = tools::command("curl", ["-sS", "--fail-with-body", "-X", method]);
        command.arg(format!("http://127.0.0.1:{}{path}", self.port));
        command.args(["-H", &format!("Authorization: Bearer {}", self.token)]);
        if let Some(body) = body {
            command.args(["-H", "Content-Type: application/json", "-d", body]);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{method} {path}: {said} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{method} {path}: {error}: {said}"))
    }
}

/// A body of a document, with other values in the places of some of its own.
pub(crate) fn filled(body: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(body.to_owned(), |body, (place, value)| {
        assert!(body.contains(place), "{body} has no {place}");
        body.replacen(place, value, 1)
    })
}
