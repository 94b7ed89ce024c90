//! The decisions, by IANA's tables and by properties.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

/// IANA's special-purpose addresses that are not globally reachable, and multicast.
const SPECIAL: [&str; 36] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "::ffff:10.0.0.0/104",
    "::127.0.0.0/104",
    "64:ff9b::a00:0/104",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002:a00::/24",
    "2002:7f00::/24",
    "2002:a9fe::/32",
    "2002:c0a8::/32",
    "3fff::/20",
    "4000::/2",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

fn network(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| parse_network(text).unwrap()).collect()
}

/// The address of a network whose bits behind the prefix are those of `bits`.
fn within(network: IpNet, bits: u128) -> IpAddr {
    let (address, host) = match network {
        IpNet::V4(v4) => {
            let host = u32::from(v4.hostmask());
            let bits = u32::try_from(bits & u128::from(u32::MAX)).unwrap();
            return Ipv4Addr::from(u32::from(v4.network()) | (bits & host)).into();
        }
        IpNet::V6(v6) => (u128::from(v6.network()), u128::from(v6.hostmask())),
    };
    Ipv6Addr::from(address | (bits & host)).into()
}

/// IPv6 addresses that lead to an IPv4 one.
fn forms(v4: Ipv4Addr) -> [IpAddr; 4] {
    let [a, b] = [u32::from(v4) >> 16, u32::from(v4) & 0xffff].map(|half| u16::try_from(half).unwrap());
    [
        v4.to_ipv6_mapped().into(),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, a, b).into(),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b).into(),
        Ipv6Addr::new(0x2002, a, b, 7, 0, 0, 0, 1).into(),
    ]
}

fn passes(policy: &EgressPolicy, address: IpAddr) -> bool {
    policy.check("h", address).is_ok()
}

proptest! {
    #[test]
    fn nothing_special_is_public(which in 0..SPECIAL.len(), bits: u128) {
        let address = within(network(SPECIAL[which]), bits);
        prop_assert!(!passes(&EgressPolicy::public(), address), "{address}");
        prop_assert!(!is_public(address));
        prop_assert!(passes(&EgressPolicy::default(), address));
    }

    #[test]
    fn what_is_in_no_table_is_public(bits: u32) {
        let v4 = Ipv4Addr::from(bits);
        let special = SPECIAL.iter().any(|text| network(text).contains(&IpAddr::V4(v4)));
        prop_assert_eq!(is_public(v4.into()), !special, "{}", v4);
        for form in forms(v4) {
            prop_assert_eq!(is_public(form), !special, "{}", form);
        }
    }

    #[test]
    fn every_form_of_an_ipv4_address_is_decided_as_that_address(
        bits: u32, length in 0..=32u8, denied: u32, others in 0..3usize
    ) {
        let v4 = Ipv4Addr::from(bits);
        prop_assume!(bits > 1);
        let part = |bits: u32| IpNet::new(Ipv4Addr::from(bits).into(), length).unwrap().trunc();
        let policy = EgressPolicy {
            others: Egress::WORDS[others].1,
            allow: vec![part(bits ^ (denied & 1))],
            deny: vec![part(denied)],
        };
        for form in forms(v4) {
            prop_assert_eq!(passes(&policy, form), passes(&policy, v4.into()), "{}", form);
        }
    }

    #[test]
    fn denied_is_denied_and_allowed_is_allowed(bits: u128, is_v4: bool, length in 0..=32u8, others in 0..3usize) {
        let address = if is_v4 { within(network("0.0.0.0/0"), bits) } else { within(network("::/0"), bits) };
        let around = vec![IpNet::new(address, length).unwrap().trunc()];
        let others = Egress::WORDS[others].1;
        let denied = EgressPolicy { others, allow: around.clone(), deny: around.clone() };
        let allowed = EgressPolicy { others, allow: around, deny: vec![] };
        // A mapped address is an IPv4 one, which IPv6 networks don't name.
        prop_assume!(address.to_canonical() == address);
        prop_assert!(!passes(&denied, address));
        prop_assert!(passes(&allowed, address));
    }
}

#[test]
fn a_refusal_names_host_address_and_list_and_nothing_else() {
    let policy = EgressPolicy { deny: networks(&["8.8.0.0/16"]), ..EgressPolicy::public() };
    let refusal =
        |address: &str| policy.check("db.example", address.parse().unwrap()).unwrap_err().to_string();
    assert_eq!(
        refusal("::ffff:10.1.2.3"),
        "db.example is not connected to: its address 10.1.2.3 is in a private network \
         (`EgressPolicy::allow`)"
    );
    assert!(refusal("8.8.8.8").ends_with("(`EgressPolicy::deny`)"));
    let listed = EgressPolicy { others: Egress::Listed, allow: networks(&["8.8.4.4"]), deny: vec![] };
    assert!(passes(&listed, "8.8.4.4".parse().unwrap()) && !passes(&listed, "8.8.8.8".parse().unwrap()));
}

#[test]
fn the_metadata_services_of_clouds_are_not_public() {
    for address in [
        "169.254.169.254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
    ] {
        assert!(!is_public(address.parse().unwrap()), "{address}");
    }
}

#[test]
fn networks_are_read_or_refused_with_a_sentence() {
    for (text, read) in
        [("10.0.0.0/8", "10.0.0.0/8"), (" ::1", "::1/128"), ("127.0.0.1 ", "127.0.0.1/32"), ("::/0", "::/0")]
    {
        assert_eq!(parse_network(text).unwrap().to_string(), read);
    }
    for (text, part) in [
        ("", "no network"),
        ("10.0.0.0/33", "no network"),
        ("db.example", "no network"),
        ("10.0.0.5/8", "write 10.0.0.0/8 or 10.0.0.5"),
        ("::ffff:10.0.0.0/104", "write the IPv4 network"),
    ] {
        let error = parse_network(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_setting_names_several_networks_or_none() {
    let read = |text: &str| text.parse::<Networks>().map(|networks| networks.0.len());
    assert_eq!([read(""), read(" "), read("::1"), read("10.0.0.0/8, ::1")], [Ok(0), Ok(0), Ok(1), Ok(2)]);
    assert!(read("10.0.0.0/8,").is_err() && read("10.0.0.0/8;::1").is_err());
}

#[test]
fn words_are_read_back() {
    for (word, egress) in Egress::WORDS {
        assert_eq!((word.parse(), egress.to_string()), (Ok(egress), word.to_owned()));
    }
    assert!("all".parse::<Egress>().unwrap_err().contains("any, public and listed"));
}

#[test]
fn names_of_one_network_are_not_public() {
    for name in
        ["localhost", "LOCALHOST.", "s3.localhost", "garage", "metadata.google.internal", "nas.home.arpa", ""]
    {
        assert!(!is_public_name(name), "{name}");
    }
    assert!(is_public_name("s3.example") && is_public_name("S3.eu-central-1.amazonaws.com."));
}
