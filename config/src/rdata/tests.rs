use proptest::prelude::*;

use super::*;

fn rtype(text: &str) -> RecordType {
    text.parse().unwrap()
}

#[test]
fn every_type_is_read_and_written() {
    // Type, as it is written, as it is printed.
    for (name, written, printed) in [
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:DB8:0::1", "2001:db8::1"),
        ("CNAME", "WWW.example.com", "www.example.com."),
        ("NS", ".", "."),
        ("PTR", r"a\.b.example.", r"a\.b.example."),
        ("DNAME", r"sp\032ace.example.", r"sp\032ace.example."),
        ("MX", "10 mail.example.com.", "10 mail.example.com."),
        (
            "TXT",
            r#""v=spf1 -all" plain "with \"quotes\" and \\""#,
            r#""v=spf1 -all" "plain" "with \"quotes\" and \\""#,
        ),
        ("TXT", r#""""#, r#""""#),
        ("TXT", r"caf\195\169", r#""caf\195\169""#),
        ("TXT", "café", r#""caf\195\169""#),
        ("SRV", "10 5 5060 sip.example.com.", "10 5 5060 sip.example.com."),
        (
            "CAA",
            r#"128 ISSUE "letsencrypt.org; accounturi=x""#,
            r#"128 issue "letsencrypt.org; accounturi=x""#,
        ),
        (
            "SOA",
            "ns1.example. h.example. 7 4h 1h 2w 5m",
            "ns1.example. h.example. 7 14400 3600 1209600 300",
        ),
        (
            "DS",
            "60485 5 1 2BB183AF5F22588179A53B0A 98631FAD1A292118",
            "60485 5 1 2bb183af5f22588179a53b0a98631fad1a292118",
        ),
        ("TLSA", "3 1 1 0a0B", "3 1 1 0a0b"),
        ("SSHFP", "4 2 ff", "4 2 ff"),
        (
            "NAPTR",
            r#"100 10 "u" "E2U+sip" "!^.*$!sip:info@example.com!" ."#,
            r#"100 10 "u" "E2U+sip" "!^.*$!sip:info@example.com!" ."#,
        ),
        ("HTTPS", "1 .", "1 ."),
        ("HTTPS", "1 . port=8443 ALPN=h2,h3", "1 . alpn=h2,h3 port=8443"),
        (
            "SVCB",
            r#"16 foo.example.org. alpn="h2,h3-19" mandatory=ipv4hint,alpn ipv4hint=192.0.2.1"#,
            "16 foo.example.org. mandatory=alpn,ipv4hint alpn=h2,h3-19 ipv4hint=192.0.2.1",
        ),
        // RFC 9460 appendix D.2: an alpn with a comma and a backslash in its name.
        (
            "SVCB",
            r#"16 foo.example.org. alpn="f\\\\oo\\,bar,h2""#,
            r#"16 foo.example.org. alpn="f\\\\oo\\,bar,h2""#,
        ),
        ("SVCB", r#"1 foo. key667="hello\210qoo""#, r#"1 foo. key667="hello\210qoo""#),
        ("SVCB", "1 foo. key667=hello", r#"1 foo. key667="hello""#),
        (
            "SVCB",
            r#"1 foo. ipv6hint="2001:db8::1,2001:db8::53:1""#,
            "1 foo. ipv6hint=2001:db8::1,2001:db8::53:1",
        ),
        (
            "SVCB",
            "1 foo. alpn=h2 no-default-alpn ech=AQID dohpath=/dns-query{?dns}",
            r#"1 foo. alpn=h2 no-default-alpn ech=AQID dohpath="/dns-query{?dns}""#,
        ),
        ("TYPE65280", r"\# 3 0A 0b0c", r"\# 3 0a0b0c"),
        ("TYPE65280", r"\# 0", r"\# 0"),
        ("A", r"\# 4 c0000201", "192.0.2.1"),
    ] {
        let rtype = rtype(name);
        let wire =
            parse_line(rtype, written).unwrap_or_else(|why| panic!("{name} {written}: {why}"));
        assert_eq!(print(rtype, &wire), printed, "{name} {written}");
        assert_eq!(parse_line(rtype, printed).unwrap(), wire, "{name} {printed}");
        assert_eq!(check(rtype, &wire), Ok(()));
    }
}

#[test]
fn what_is_wrong_is_told_with_what_is_right() {
    for (name, written, why) in [
        ("A", "192.0.2", "not an IPv4 address; write one as 192.0.2.1"),
        ("A", "", "A has one address, as 192.0.2.1; missing: the address"),
        ("A", "192.0.2.1 192.0.2.2", "`192.0.2.2` is too much"),
        ("MX", "mail.example.com.", "the preference: `mail.example.com.` is not a number"),
        ("MX", "10", "missing: the name"),
        ("MX", "65536 a.", "from 0 to 65535"),
        ("CNAME", "a..b", "two dots follow each other"),
        ("TXT", "\"open", "a quote is not closed"),
        ("TXT", r"a\25", "write three digits"),
        ("TXT", r"a\256", "not a byte"),
        ("CAA", "0 is-sue x", "letters and digits"),
        ("HTTPS", "1 . alpn", "it needs a value"),
        ("HTTPS", "1 . alpn=h2,,h3", "1 to 255 bytes"),
        ("HTTPS", "1 . color=red", "not a parameter; there are mandatory, alpn"),
        ("HTTPS", "1 . port=1 port=2", "there twice"),
        ("HTTPS", "1 . mandatory=alpn", "`alpn` is mandatory, but it is not there"),
        ("HTTPS", "1 . no-default-alpn", "needs `alpn`"),
        ("SOA", "a. b. 1 2 3 4", "missing: minimum"),
        ("TYPE65280", "abc", r"write it as `\# LENGTH HEX`"),
        ("TYPE65280", r"\# 2 0a", "is said to be the length, but it is 1"),
        ("TYPE65280", r"\# 1 0", "pairs of hexadecimal digits"),
        ("A", r"\# 3 c00002", "this is no data of A"),
    ] {
        let told = parse_line(rtype(name), written).unwrap_err();
        assert!(told.contains(why), "{name} {written}: {told}");
    }
    let long = parse_line(RecordType::TXT, &"x".repeat(256)).unwrap_err();
    assert!(long.contains("at most 255 bytes, and this one 256; write several texts"), "{long}");
}

#[test]
fn names_are_relative_to_the_origin() {
    let origin: DnsName = "example.com".parse().unwrap();
    for (written, expected) in [
        ("www", "www.example.com"),
        ("www.", "www"),
        ("@", "example.com"),
        (r"www\.", r"www\..example.com"),
        (r"www\\.", r"www\\"),
    ] {
        assert_eq!(relative(written, &origin).unwrap().to_string(), expected, "{written}");
    }
}

proptest! {
    /// Whatever the bytes are, what is printed of them reads as them.
    #[test]
    fn any_data_survives_being_written(
        number in prop_oneof![
            Just(1_u16), Just(2), Just(5), Just(6), Just(15), Just(16), Just(28), Just(33),
            Just(35), Just(39), Just(43), Just(52), Just(64), Just(65), Just(257), any::<u16>(),
        ],
        wire in proptest::collection::vec(prop_oneof![0_u8..9, any::<u8>()], 0..60),
    ) {
        let rtype = RecordType(number);
        let text = print(rtype, &wire);
        match parse_line(rtype, &text) {
            // Names and tags are lower-cased.
            Ok(read) => prop_assert!(read.eq_ignore_ascii_case(&wire), "{text}"),
            // What is no data of its type is printed by its bytes, and refused.
            Err(why) => prop_assert!(check(rtype, &wire).is_err(), "{text}: {why}"),
        }
    }

    /// No text makes it panic, and what it reads it also prints.
    #[test]
    fn any_text_is_read_or_refused(number in 0_u16..70, text in "[ -~é\\\\\"=,]{0,40}") {
        let rtype = RecordType(number);
        if let Ok(wire) = parse_line(rtype, &text) {
            let printed = print(rtype, &wire);
            prop_assert_eq!(parse_line(rtype, &printed), Ok(wire));
        }
    }
}
