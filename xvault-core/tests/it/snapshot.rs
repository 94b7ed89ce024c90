//! The manifest, the meta file and the locator as text.

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use xvault_core::snapshot::{DocumentError, Locator, hex};
use xvault_core::{Manifest, Meta};
use xvault_testkit::samples::{key, manifest};

#[test]
fn the_checksum_is_that_of_the_zeroed_text() {
    let json = String::from_utf8(manifest(&key()).to_json().unwrap()).unwrap();
    let read = Manifest::from_json(json.as_bytes()).unwrap();
    let digest = read.checksum.strip_prefix("sha256:").unwrap();
    let zeroed = json.replace(digest, &"0".repeat(64));
    assert_eq!(digest, hex(&Sha256::digest(zeroed)));
}

#[test]
fn a_newer_version_is_named() {
    let json = String::from_utf8(manifest(&key()).to_json().unwrap()).unwrap();
    let newer = json.replace("\"format_version\": 1", "\"format_version\": 2");
    let error = Manifest::from_json(newer.as_bytes()).unwrap_err();
    assert!(matches!(error, DocumentError::Version { found: 2, .. }), "{error}");
    let error = Meta::from_json(br#"{"format_version": 3, "new_field": 1}"#).unwrap_err();
    assert!(matches!(error, DocumentError::Version { found: 3, .. }), "{error}");
}

#[test]
fn a_locator_has_the_seeds_fields() {
    let locator = Locator::LocalFs { worker_id: "worker-1".parse().unwrap(), local_path: "/x".into() };
    let json = serde_json::to_value(&locator).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"storage_backend": "local_fs", "worker_id": "worker-1", "local_path": "/x"})
    );
}

proptest! {
    #[test]
    fn no_flipped_bit_and_no_cut_of_a_manifest_passes(at in 0usize..100_000, bit in 0u8..8) {
        let json = manifest(&key()).to_json().unwrap();
        let at = at % (json.len() - 1);
        let mut flipped = json.clone();
        flipped[at] ^= 1 << bit;
        prop_assert!(Manifest::from_json(&flipped).is_err());
        prop_assert!(Manifest::from_json(&json[..at]).is_err());
    }
}
