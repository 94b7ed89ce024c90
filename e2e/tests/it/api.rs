//! A client of the hub's API.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::wait::block_on;

/// One hub, asked by one user.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    base: String,
    pub(crate) token: String,
    http: Client,
}

/// What a hub said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// The hub's clock, as its `Date` header tells.
    pub(crate) date: String,
}

impl Answer {
    /// The body of a success.
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.body);
        self.body
    }
}

impl Api {
    /// Nobody in particular.
    pub(crate) fn anonymous(port: u16) -> Self {
        // Not kept: a hub that was restarted would break the connection under the next request.
        let http = block_on(async {
            Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(40)).build().unwrap()
        });
        Self { base: format!("http://127.0.0.1:{port}"), token: String::new(), http }
    }

    /// The same hub as the user of `token`.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// The same user at another hub.
    pub(crate) fn at(&self, port: u16) -> Self {
        Self { base: format!("http://127.0.0.1:{port}"), ..self.clone() }
    }

    /// Logs in; the whole session as the API gives it.
    pub(crate) fn login(&self, email: &str, password: &str) -> Value {
        self.post("/api/v1/auth/login", &json!({"email": email, "password": password}))
    }

    /// One request; `None` when the hub did not answer.
    pub(crate) fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Answer> {
        block_on(async {
            let mut request = self.http.request(method, format!("{}{path}", self.base));
            if !self.token.is_empty() {
                request = request.bearer_auth(&self.token);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            let date = response.headers().get("date").and_then(|date| date.to_str().ok()).unwrap_or_default();
            let date = date.to_owned();
            let text = response.text().await.ok()?;
            let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
            Some(Answer { status, body, date })
        })
    }

    fn must(&self, method: &Method, path: &str, body: Option<&Value>) -> Value {
        let answer = self.send(method.clone(), path, body);
        let answer = answer.unwrap_or_else(|| panic!("{method} {path}: no answer"));
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.body);
        answer.body
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.must(&Method::GET, path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        self.must(&Method::POST, path, Some(body))
    }

    /// Whether the hub serves.
    pub(crate) fn is_ready(&self) -> bool {
        self.send(Method::GET, "/readyz", None).is_some_and(|answer| answer.status == 200)
    }
}
