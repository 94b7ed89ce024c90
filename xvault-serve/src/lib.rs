//! Serves an axum app over HTTP/1, for so many connections at once, none of which can be held by saying or reading nothing.
//!
//! `axum::serve` waits for ever for a peer that has sent half a request, or none, and takes as many connections as come. What
//! strangers can reach needs limits: [`serve`] keeps [`Limits`].

mod connections;
mod crowd;
mod stalling;

pub use connections::{Limits, Pace, serve};
