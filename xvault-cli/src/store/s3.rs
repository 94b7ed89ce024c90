//! From `s3://BUCKET/PREFIX`, flags and the usual variables to a bucket.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use xvault::connectors::{S3Options, S3Store, Store};
use xvault::core::secret::SecretString;
use xvault::core::store::{Addressing, S3Credential, S3Settings};

use crate::args::StoreArgs;

const KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";

/// Opens the bucket; nobody is asked yet whether it is there.
pub(super) fn open(
    args: &StoreArgs,
    place: &str,
    variables: Variables<'_>,
) -> anyhow::Result<Arc<dyn Store>> {
    let settings = settings(args, place, variables)?;
    let credential = credential(variables)?;
    Ok(Arc::new(S3Store::new(&settings, &credential, S3Options::default())?))
}

/// Flags that a directory has no use for.
pub(super) fn refuse_settings(args: &StoreArgs) -> anyhow::Result<()> {
    let given = [
        (args.s3_endpoint.is_some(), "--s3-endpoint"),
        (args.s3_region.is_some(), "--s3-region"),
        (args.s3_addressing.is_some(), "--s3-addressing"),
    ];
    match given.iter().find(|(given, _)| *given) {
        Some((_, flag)) => bail!("{flag} is for stores in buckets: give --store s3://BUCKET/PREFIX"),
        None => Ok(()),
    }
}

/// A variable of the environment; an empty one is as good as none.
pub(super) fn variable(name: &str) -> anyhow::Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("{name} is not UTF-8 text"),
    }
}

/// The same variable of a second store, or that of the first one. A credential is never put together from both.
pub(super) fn second_variable(name: &str, variables: Variables<'_>) -> anyhow::Result<Option<String>> {
    let own = variables(&format!("XVAULT_TO_{name}"))?;
    let is_apart = [KEY, SECRET, TOKEN].contains(&name) && variables(&format!("XVAULT_TO_{KEY}"))?.is_some();
    if own.is_some() || is_apart { Ok(own) } else { variables(name) }
}

pub(super) type Variables<'a> = &'a dyn Fn(&str) -> anyhow::Result<Option<String>>;

fn settings(args: &StoreArgs, place: &str, variables: Variables<'_>) -> anyhow::Result<S3Settings> {
    // Not repeated: it may be a secret.
    ensure!(!place.contains('@'), "s3:// takes no credential: set {KEY} and {SECRET}");
    ensure!(
        !place.contains(['?', '#']),
        "s3:// takes a bucket and a prefix only; settings are flags: --s3-endpoint, --s3-region, --s3-addressing"
    );
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    ensure!(!bucket.is_empty(), "s3:// lacks its bucket: s3://BUCKET/PREFIX");
    let endpoint = first(&args.s3_endpoint, ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"], variables)?;
    let region = first(&args.s3_region, ["AWS_REGION", "AWS_DEFAULT_REGION"], variables)?;
    let settings = S3Settings {
        bucket: bucket.to_owned(),
        prefix: prefix.trim_end_matches('/').to_owned(),
        region: region.unwrap_or_else(S3Settings::default_region),
        addressing: args.s3_addressing.map_or_else(|| addressing(endpoint.as_deref(), bucket), Into::into),
        endpoint,
        ca_certificate: variables("AWS_CA_BUNDLE")?.map(|path| certificates(Path::new(&path))).transpose()?,
    };
    settings.validate()?;
    Ok(settings)
}

/// A flag, or else the first of two variables that is set.
fn first(
    flag: &Option<String>,
    names: [&str; 2],
    variables: Variables<'_>,
) -> anyhow::Result<Option<String>> {
    let [first, second] = names;
    match (flag, variables(first)?) {
        (Some(flag), _) => Ok(Some(flag.clone())),
        (None, Some(value)) => Ok(Some(value)),
        (None, None) => variables(second),
    }
}

/// Amazon wants names of hosts, but its certificate fits no name with a dot in it. Other servers know paths, all of them.
fn addressing(endpoint: Option<&str>, bucket: &str) -> Addressing {
    match endpoint {
        None if !bucket.contains('.') => Addressing::VirtualHost,
        _ => Addressing::Path,
    }
}

fn certificates(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read AWS_CA_BUNDLE {}", path.display()))
}

fn credential(variables: Variables<'_>) -> anyhow::Result<S3Credential> {
    let (key, secret) = (variables(KEY)?, variables(SECRET)?);
    let (Some(access_key_id), Some(secret)) = (key, secret) else {
        bail!("no credential for the bucket: set {KEY} and {SECRET}; profiles in files are not read")
    };
    let session_token = variables(TOKEN)?.map(SecretString::from);
    Ok(S3Credential { access_key_id, secret_access_key: secret.into(), session_token })
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvault::core::secret::ExposeSecret;

    fn args(store: &str) -> StoreArgs {
        StoreArgs { store: store.into(), s3_endpoint: None, s3_region: None, s3_addressing: None }
    }

    fn read(place: &str, set: &[(&str, &str)]) -> anyhow::Result<S3Settings> {
        let variables = |name: &str| {
            let found = set.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, value)| (*value).to_owned()))
        };
        settings(&args("s3://"), place, &variables)
    }

    #[test]
    fn a_place_and_the_usual_variables_name_a_bucket() {
        let amazon = read("backups/a/b/", &[("AWS_DEFAULT_REGION", "eu-central-1")]).unwrap();
        assert_eq!(
            (amazon.to_string().as_str(), amazon.region.as_str()),
            ("s3://backups/a/b", "eu-central-1")
        );
        assert_eq!((amazon.endpoint, amazon.addressing), (None, Addressing::VirtualHost));
        assert_eq!(read("dotted.name", &[]).unwrap().addressing, Addressing::Path);
        let own = [
            ("AWS_ENDPOINT_URL", "http://a:1"),
            ("AWS_ENDPOINT_URL_S3", "http://b:2"),
            ("AWS_REGION", "garage"),
        ];
        let own = read("backups", &own).unwrap();
        assert_eq!((own.endpoint.as_deref(), own.region.as_str()), (Some("http://b:2"), "garage"));
        assert_eq!(own.addressing, Addressing::Path);
    }

    #[test]
    fn a_flag_beats_a_variable() {
        let flags = StoreArgs { s3_region: Some("flag".into()), ..args("s3://b") };
        let settings = settings(&flags, "backups", &|_| Ok(Some("https://variable".into())));
        assert!(settings.unwrap_err().to_string().contains("AWS_CA_BUNDLE"));
        let only = |name: &str| Ok((name == "AWS_REGION").then(|| "variable".to_owned()));
        assert_eq!(super::settings(&flags, "backups", &only).unwrap().region, "flag");
    }

    #[test]
    fn each_bad_place_is_named() {
        let cases = [
            ("", "s3:// lacks its bucket"),
            ("/x", "s3:// lacks its bucket"),
            ("KEY:secret@bucket", "takes no credential"),
            ("bucket?region=x", "settings are flags"),
            ("Bucket", "setting `bucket`"),
            ("bucket/a b", "setting `prefix`"),
        ];
        for (place, told) in cases {
            let error = read(place, &[]).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("secret@"), "{place}: {error}");
        }
        let error = read("bucket", &[("AWS_ENDPOINT_URL", "s3.example")]).unwrap_err().to_string();
        assert!(error.contains("setting `endpoint`"), "{error}");
    }

    /// All of a credential.
    fn told(credential: &S3Credential) -> [Option<&str>; 3] {
        let token = credential.session_token.as_ref().map(ExposeSecret::expose_secret);
        [Some(&credential.access_key_id), Some(credential.secret_access_key.expose_secret()), token]
    }

    #[test]
    fn a_second_store_has_a_whole_credential_of_its_own_or_that_of_the_first() {
        let second = |set: &[(&str, &str)]| {
            let found = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                Ok(found.map(|(_, value)| (*value).to_owned()))
            };
            credential(&|name| second_variable(name, &found))
        };
        let first = [(KEY, "first"), (SECRET, "s"), (TOKEN, "t")];
        assert_eq!(told(&second(&first).unwrap()), [Some("first"), Some("s"), Some("t")]);
        let own = [("XVAULT_TO_AWS_ACCESS_KEY_ID", "own"), ("XVAULT_TO_AWS_SECRET_ACCESS_KEY", "own s")];
        let apart = second(&[&first[..], &own].concat()).unwrap();
        assert_eq!(told(&apart), [Some("own"), Some("own s"), None]);
        let half = second(&[&first[..], &own[..1]].concat()).unwrap_err().to_string();
        assert!(half.starts_with("no credential for the bucket"), "{half}");
    }

    #[test]
    fn a_credential_needs_both_halves() {
        for set in [None, Some(KEY), Some(SECRET)] {
            let half = |name: &str| Ok((Some(name) == set).then(|| "x".to_owned()));
            assert!(credential(&half).unwrap_err().to_string().contains("set AWS_ACCESS_KEY_ID and"));
        }
        let whole = credential(&|name| Ok(Some(name.to_lowercase()))).unwrap();
        let all = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
        assert_eq!(told(&whole), all.map(Some));
    }
}
