//! Who a token belongs to.

use std::net::IpAddr;

use crate::Hub;
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;

/// The holder of an access token or an API key.
pub(crate) async fn authenticate(_hub: &Hub, _token: &str, _ip: Option<IpAddr>) -> Result<Principal> {
    Err(Error::unauthorized("the token is not valid"))
}
