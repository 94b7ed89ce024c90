//! Who asks, and what for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use xvault_core::{ApiKeyId, TenantId, UserId};

use super::client_address::client_address;
use super::error::{Error, Result};
use crate::Hub;
use crate::db::Scope;

/// What somebody may do. Each may do what those before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Reads, and runs backups and restores.
    Member,
    /// Also changes sources, credentials, schedules.
    Admin,
    /// Also users and keys.
    Owner,
    /// Runs the platform, for all tenants.
    Operator,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
            Self::Operator => "operator",
        }
    }
}

impl FromStr for Role {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "member" => Ok(Self::Member),
            "admin" => Ok(Self::Admin),
            "owner" => Ok(Self::Owner),
            "operator" => Ok(Self::Operator),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who stands behind a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Actor {
    /// A person.
    User(UserId),
    /// A program.
    ApiKey(ApiKeyId),
}

impl Actor {
    /// Of the user or the key.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::User(id) => id.as_str(),
            Self::ApiKey(id) => id.as_str(),
        }
    }
}

/// Who asks: made from the `Authorization` header, checked against the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) actor: Actor,
    /// None for operators.
    pub(crate) tenant_id: Option<TenantId>,
    pub(crate) role: Role,
    /// Where from.
    pub(crate) ip: Option<IpAddr>,
}

impl Principal {
    /// 403 unless the role suffices.
    pub(crate) fn require(&self, role: Role) -> Result<()> {
        if self.role >= role {
            Ok(())
        } else {
            Err(Error::forbidden(format!("this needs the role {role}; yours is {}", self.role)))
        }
    }

    /// The tenant a request is about: one's own, or the one an operator names. Another's is 404.
    pub(crate) fn tenant(&self, named: Option<TenantId>) -> Result<TenantId> {
        match (&self.tenant_id, named) {
            (Some(own), None) => Ok(own.clone()),
            (Some(own), Some(named)) if *own == named => Ok(named),
            (Some(_), Some(_)) => Err(Error::not_found("tenant")),
            (None, Some(named)) => Ok(named),
            (None, None) => Err(Error::bad_request("an operator must name the tenant as `tenant_id`")),
        }
    }

    /// Whose rows a request may see: one's own, one tenant's that an operator names, or all.
    pub(crate) fn scope(&self, named: Option<TenantId>) -> Result<Scope> {
        match (&self.tenant_id, &named) {
            (None, None) => Ok(Scope::All),
            _ => self.tenant(named).map(Scope::Tenant),
        }
    }
}

/// The tenant that a call is about, in its query. A call with a body takes it there, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedTenant {
    /// Which tenant it is about. Operators must say, here or in the body; others may leave it out.
    tenant_id: Option<TenantId>,
}

impl NamedTenant {
    /// What query and body say together. 400 when they contradict each other.
    pub(crate) fn or(self, body: Option<TenantId>) -> Result<Option<TenantId>> {
        match (self.tenant_id, body) {
            (Some(query), Some(body)) if query != body => {
                Err(Error::bad_request("`tenant_id` is not the same in query and body"))
            }
            (query, body) => Ok(query.or(body)),
        }
    }
}

impl FromRequestParts<Hub> for Principal {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self> {
        let token = bearer(&parts.headers)?.to_owned();
        let ip = client_address(parts, &hub.settings().trusted_proxies);
        crate::app::auth::authenticate(hub, &token, ip).await
    }
}

/// The token of `Authorization: Bearer …`.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|value| value.split_once(' '))
        .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    match token {
        Some((_, token)) if !token.trim().is_empty() => Ok(token.trim()),
        _ => Err(Error::unauthorized("log in, and send `Authorization: Bearer TOKEN`")),
    }
}
