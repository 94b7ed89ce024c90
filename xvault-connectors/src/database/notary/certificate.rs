//! A certificate that proves nothing, for a connection that does not leave this machine: made anew each time, and kept nowhere.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// DER's words.
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OBJECT: u8 = 0x06;
const TEXT: u8 = 0x0c;
const TIME: u8 = 0x17;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// `ecdsa-with-SHA256`, `id-ecPublicKey`, `prime256v1`, and `commonName`.
const SIGNED: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const NAME: &[u8] = &[0x55, 0x04, 0x03];

/// A certificate that is signed by itself, and its key.
pub(super) fn make() -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), String> {
    let random = SystemRandom::new();
    let failed = |_| "no key could be made".to_owned();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(failed)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random);
    let pair = pair.map_err(|error| error.to_string())?;
    let content = content(pair.public_key().as_ref());
    let signature = pair.sign(&random, &content).map_err(failed)?;
    let whole = [content, algorithm(&[SIGNED]), bits(signature.as_ref())];
    let key = PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec());
    Ok((CertificateDer::from(sequence(&whole)), key.into()))
}

/// What is signed: version 3, a number, names, a time for which it is good, and the key.
fn content(key: &[u8]) -> Vec<u8> {
    let common_name = sequence(&[field(OBJECT, NAME), field(TEXT, b"xvault")]);
    let name = sequence(&[field(SET, &common_name)]);
    let times = sequence(&[field(TIME, b"200101000000Z"), field(TIME, b"491231235959Z")]);
    let key = sequence(&[algorithm(&[KEY, CURVE]), bits(key)]);
    let version = field(VERSION, &field(INTEGER, &[2]));
    let number = field(INTEGER, &[1]);
    sequence(&[version, number, algorithm(&[SIGNED]), name.clone(), times, name, key])
}

fn algorithm(objects: &[&[u8]]) -> Vec<u8> {
    sequence(&objects.iter().map(|object| field(OBJECT, object)).collect::<Vec<_>>())
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    field(SEQUENCE, &parts.concat())
}

/// Whole bytes.
fn bits(bytes: &[u8]) -> Vec<u8> {
    field(BITS, &[&[0], bytes].concat())
}

/// Lengths of less than 64 KiB.
fn field(kind: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let head = match (high, low) {
        (0, 0..=0x7f) => vec![kind, low],
        (0, _) => vec![kind, 0x81, low],
        _ => vec![kind, 0x82, high, low],
    };
    [head, content.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_implementation_reads_it() {
        let (certificate, _) = make().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("certificate.der");
        std::fs::write(&path, &certificate).unwrap();
        let mut openssl =
            xvault_testkit::tools::command("openssl", ["x509", "-inform", "DER", "-noout", "-text", "-in"]);
        let output = openssl.arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("CN = xvault") && text.contains("ecdsa-with-SHA256"), "{text}");
        assert!(text.contains("Version: 3") && text.contains("Not After : Dec 31 23:59:59 2049"), "{text}");
    }
}
