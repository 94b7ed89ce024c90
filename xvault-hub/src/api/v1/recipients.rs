//! `/api/v1/tenants/{id}/recipients`: whom a tenant's snapshots are encrypted to.

use std::collections::BTreeMap;

use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::{Recipient, TenantId};

use crate::Hub;
use crate::api::error::{Error, ErrorBody, Result};
use crate::api::extract::{Json, Path};
use crate::api::principal::{Principal, Role};
use crate::app::recipients::{self, Key, Wanted};

/// The most keys of a kind.
const MAX_KEYS: usize = 8;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(get, set, give_back)).routes(routes!(challenge))
}

/// The keys that a tenant wants its snapshots encrypted to.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedRecipients {
    /// age recipients (`age1…`) for the artifacts: who can read content. 1 to 8.
    #[schema(min_items = 1, max_items = 8)]
    data: Vec<String>,
    /// age recipients for the indexes: who can read names. None: the platform keeps a key for them, so that snapshots can be
    /// looked into.
    #[serde(default)]
    #[schema(max_items = 8)]
    index: Vec<String>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct SetRecipients {
    /// age recipients (`age1…`) for the artifacts: who can read content. 1 to 8.
    #[schema(min_items = 1, max_items = 8)]
    data: Vec<String>,
    /// age recipients for the indexes; none: the platform's.
    #[serde(default)]
    #[schema(max_items = 8)]
    index: Vec<String>,
    /// For each of these recipients the word that its challenge holds.
    answers: BTreeMap<String, String>,
}

/// Something to decrypt: `age -d -i KEY` prints the word to be answered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RecipientChallenge {
    recipient: String,
    /// An armored age file.
    challenge: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RecipientChallenges {
    /// One for each key.
    challenges: Vec<RecipientChallenge>,
    /// Until when they can be answered, once.
    expires_at: Timestamp,
}

/// A key that new snapshots are encrypted to.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct RecipientKey {
    /// `age1…`
    public_key: String,
    /// As in manifests: `encryption_key_id`.
    key_id: String,
    /// Whether the platform has its identity, and so can decrypt.
    platform_can_decrypt: bool,
}

/// Whom new snapshots of a tenant are encrypted to. An offline recovery key of the platform, if there is one, comes on top.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Recipients {
    /// Artifacts.
    data: Vec<RecipientKey>,
    /// Indexes.
    index: Vec<RecipientKey>,
    /// The platform's offline key, which opens everything, too.
    recovery_recipient: Option<String>,
}

fn answer(hub: &Hub, keys: &[Key]) -> Json<Recipients> {
    let of = |purpose: &str| {
        let fits = keys.iter().filter(|key| key.purpose == "all" || key.purpose == purpose);
        fits.map(|key| RecipientKey {
            public_key: key.recipient.to_string(),
            key_id: key.recipient.key_id(),
            platform_can_decrypt: key.is_here,
        })
        .collect()
    };
    let recovery_recipient = hub.settings().recovery_recipient.as_ref().map(ToString::to_string);
    Json(Recipients { data: of("data"), index: of("index"), recovery_recipient })
}

/// Get whom snapshots are encrypted to
#[utoipa::path(
    get, path = "/tenants/{id}/recipients", tag = "tenants",
    operation_id = "get_recipients",
    params(("id" = TenantId, Path)),
    responses((status = 200, body = Recipients)),
)]
async fn get(State(hub): State<Hub>, who: Principal, Path(id): Path<TenantId>) -> Result<Json<Recipients>> {
    Ok(answer(&hub, &recipients::get(&hub, &who, &id).await?))
}

/// Ask for challenges of own keys
///
/// Before snapshots are encrypted to a tenant's own keys, it proves that it has their identities: it decrypts a word for each.
/// For owners.
#[utoipa::path(
    post, path = "/tenants/{id}/recipients/challenge", tag = "tenants",
    operation_id = "challenge_recipients",
    params(("id" = TenantId, Path)),
    request_body = WantedRecipients,
    responses((status = 200, body = RecipientChallenges)),
)]
async fn challenge(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<TenantId>,
    Json(body): Json<WantedRecipients>,
) -> Result<Json<RecipientChallenges>> {
    who.require(Role::Owner)?;
    let wanted = wanted(&body.data, &body.index)?;
    let (made, expires_at) = recipients::challenge(&hub, &who, &id, &wanted).await?;
    let told = made
        .into_iter()
        .map(|made| RecipientChallenge { recipient: made.recipient.to_string(), challenge: made.file });
    Ok(Json(RecipientChallenges { challenges: told.collect(), expires_at }))
}

/// Bring own keys
///
/// From now on snapshots are encrypted to them; earlier ones stay as they are. The platform can't decrypt what comes then. For owners.
#[utoipa::path(
    put, path = "/tenants/{id}/recipients", tag = "tenants",
    operation_id = "set_recipients",
    params(("id" = TenantId, Path)),
    request_body = SetRecipients,
    responses(
        (status = 200, body = Recipients),
        (status = 409, body = ErrorBody, description = "The answer for a key is missing, wrong, used or late \
            (`challenge_failed`, with the `recipient`)."),
    ),
)]
async fn set(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<TenantId>,
    Json(body): Json<SetRecipients>,
) -> Result<Json<Recipients>> {
    who.require(Role::Owner)?;
    let wanted = wanted(&body.data, &body.index)?;
    Ok(answer(&hub, &recipients::set(&hub, &who, &id, &wanted, &body.answers).await?))
}

/// Give encryption back to the platform
///
/// From now on snapshots are encrypted to a new key of the platform, which can decrypt them. Earlier ones stay as they are. For owners.
#[utoipa::path(
    delete, path = "/tenants/{id}/recipients", tag = "tenants",
    operation_id = "give_back_recipients",
    params(("id" = TenantId, Path)),
    responses((status = 200, body = Recipients)),
)]
async fn give_back(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<TenantId>,
) -> Result<Json<Recipients>> {
    who.require(Role::Owner)?;
    Ok(answer(&hub, &recipients::give_back(&hub, &who, &id).await?))
}

fn wanted(data: &[String], index: &[String]) -> Result<Wanted> {
    if data.is_empty() {
        return Err(Error::invalid_field("data", "name one key at least"));
    }
    Ok(Wanted { data: parsed("data", data)?, index: parsed("index", index)? })
}

fn parsed(field: &str, texts: &[String]) -> Result<Vec<Recipient>> {
    if texts.len() > MAX_KEYS {
        return Err(Error::invalid_field(field, format!("{MAX_KEYS} keys at most")));
    }
    let mut keys: Vec<Recipient> = Vec::new();
    for text in texts {
        let key: Recipient = text
            .parse()
            .map_err(|error: xvault_core::seal::Error| Error::invalid_field(field, error.to_string()))?;
        if keys.contains(&key) {
            return Err(Error::invalid_field(field, format!("{key} is there twice")));
        }
        keys.push(key);
    }
    Ok(keys)
}
