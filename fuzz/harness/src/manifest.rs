//! `manifest.json` and `meta.json`: what is read is what is written, and no changed byte passes.

use sha2::{Digest, Sha256};
use xvault_core::snapshot::hex;
use xvault_core::{Manifest, Meta};

use crate::Verdict;
use crate::mutate::Rng;

const CHECKSUM_START: &[u8] = b"\"checksum\": \"sha256:";
const DIGEST_LEN: usize = 64;

/// Feeds `data`, and `data` with its checksum made right, to [`Manifest::from_json`]; and to [`Meta::from_json`].
///
/// # Panics
/// When a manifest that was read is written otherwise, or a changed one is read.
pub fn manifest(data: &[u8]) -> Verdict {
    if let Ok(meta) = Meta::from_json(data) {
        assert_eq!(meta.to_json().ok().and_then(|json| Meta::from_json(&json).ok()), Some(meta));
    }
    if let Ok(manifest) = Manifest::from_json(data) {
        assert_rewritten_alike(&manifest);
        assert_no_change_passes(data);
    }
    // A mutated manifest is refused at its checksum; with a right one the fields behind it are read, too.
    let signed = signed(data);
    let read = Manifest::from_json(&signed);
    if let Ok(manifest) = &read {
        assert_rewritten_alike(manifest);
        assert_no_change_passes(&signed);
    }
    Verdict::of(&read)
}

fn assert_rewritten_alike(manifest: &Manifest) {
    let json = manifest.to_json();
    assert!(json.is_ok(), "{:?}", json.err());
    let json = json.unwrap_or_default();
    let again = Manifest::from_json(&json);
    assert!(again.is_ok(), "what was read can't be read again: {:?}", again.err());
    if let Ok(again) = again {
        let same = Manifest { checksum: manifest.checksum.clone(), ..again.clone() };
        assert_eq!(&same, manifest);
        assert_eq!(again.to_json().ok(), Some(json), "writing is not idempotent");
        assert_eq!(again.key().prefix(), manifest.key().prefix());
    }
}

fn assert_no_change_passes(json: &[u8]) {
    let mut rng = Rng::of(json);
    let at = rng.below(json.len());
    let mut changed = json.to_vec();
    if let Some(byte) = changed.get_mut(at) {
        *byte ^= 1 << rng.below(8);
    }
    assert!(Manifest::from_json(&changed).is_err(), "byte {at} can be changed unnoticed");
}

/// `data` with the digits of its last checksum field replaced by the right ones, as docs/format.md says.
fn signed(data: &[u8]) -> Vec<u8> {
    let mut signed = data.to_vec();
    let start = data.windows(CHECKSUM_START.len()).rposition(|window| window == CHECKSUM_START);
    let Some(start) = start.map(|at| at + CHECKSUM_START.len()) else { return signed };
    let place = start..start + DIGEST_LEN;
    if let Some(digits) = signed.get_mut(place.clone()) {
        digits.fill(b'0');
        let digest = hex(&Sha256::digest(&signed));
        signed.splice(place, digest.bytes());
    }
    signed
}
