use proptest::prelude::*;

use super::*;
use crate::Problems;

fn origin() -> DnsName {
    "example.com".parse().unwrap()
}

fn entries(text: &str) -> Result<Vec<Entry>, Problems> {
    let mut entries = Vec::new();
    read(text, &origin(), |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

fn shown(entry: &Entry) -> String {
    let ttl = entry.ttl.map_or_else(|| "-".to_owned(), |ttl| ttl.to_string());
    let data = entry.rtype.print(&entry.data);
    format!("{} {} {ttl} {} {data}", entry.line, entry.name, entry.rtype)
}

fn check(text: &str, expected: &[&str]) {
    let found = entries(text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected);
}

#[test]
fn a_file_is_read_as_the_rfc_says() {
    let text = r#"
; a comment
$TTL 1h
@  IN SOA ns1 hostmaster (
       2026112101 ; serial
       4h 1h
       2w 5m )
   IN NS  ns1
      NS  ns.other.net.
ns1   300 IN A 192.0.2.1
      IN 300 AAAA 2001:db8::1
www   CNAME @
*.w   60 TXT "a;b" (c
  "d e") ; f
$ORIGIN sub
x     A 192.0.2.2
@     ALIAS example.net.
a.b.c. TYPE65280 \# 1 00
"#;
    check(
        text,
        &[
            "4 example.com 3600 SOA ns1.example.com. hostmaster.example.com. 2026112101 14400 \
             3600 1209600 300",
            "8 example.com 3600 NS ns1.example.com.",
            "9 example.com 3600 NS ns.other.net.",
            "10 ns1.example.com 300 A 192.0.2.1",
            "11 ns1.example.com 300 AAAA 2001:db8::1",
            "12 www.example.com 3600 CNAME example.com.",
            r#"13 *.w.example.com 60 TXT "a;b" "c" "d e""#,
            "16 x.sub.example.com 3600 A 192.0.2.2",
            "17 sub.example.com 3600 ALIAS example.net.",
            r"18 a.b.c 3600 TYPE65280 \# 1 00",
        ],
    );
}

#[test]
fn without_a_default_the_ttl_is_that_of_the_record_before() {
    check(
        "a A 192.0.2.1\nb 60 A 192.0.2.1\nc A 192.0.2.1\n",
        &[
            "1 a.example.com - A 192.0.2.1",
            "2 b.example.com 60 A 192.0.2.1",
            "3 c.example.com 60 A 192.0.2.1",
        ],
    );
    // The last line needs no end, and lines may end as on Windows.
    check(
        "a A 192.0.2.1\r\n  TXT x",
        &["1 a.example.com - A 192.0.2.1", "2 a.example.com - TXT \"x\""],
    );
    check("", &[]);
    check("( ; nothing\n)\n", &[]);
}

#[test]
fn every_problem_has_its_line() {
    let text = "  A 192.0.2.1
www A 192.0.2.1
www B 192.0.2.1
a..b A 192.0.2.1
    A 192.0.2.2
$INCLUDE other
$GENERATE 1-2 a A 192.0.2.1
www CH TXT x
www A
www AXFR x
www A ( 192.0.2.1
  x )
www TXT \"open
www A 192.0.2.1 )
www 1x A 192.0.2.1
www A 192.0.2.3 (
";
    let problems = entries(text).unwrap_err();
    let told: Vec<_> = problems.0.iter().map(|p| (p.place.unwrap().line, &*p.message)).collect();
    let expected = [
        (1, "no line above says whose"),
        (3, "`B` is not a type of records"),
        (4, "two dots follow each other"),
        (5, "no line above says whose"),
        (6, "other files are not read"),
        (7, "`$GENERATE` is not known"),
        (8, "the class CH is not served"),
        (9, "missing: the address"),
        (10, "no record is of that type"),
        (11, "`x` is too much"),
        (13, "a quote is not closed"),
        (14, "a `)` closes nothing"),
        (15, "`1x` is not a time"),
        (16, "a `(` is not closed"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for ((line, message), (at, part)) in told.into_iter().zip(expected) {
        assert_eq!(line, at, "{message}");
        assert!(message.contains(part), "{line}: {message}");
    }
    let endless = entries(&"x\n".repeat(1000)).unwrap_err();
    assert_eq!(endless.0.len(), 101, "the rest is not read");
}

#[test]
fn times_may_have_units() {
    for (text, expected) in [
        ("0", Some(0)),
        ("3600", Some(3600)),
        ("1h", Some(3600)),
        ("1H30m5", Some(5405)),
        ("1w", Some(604_800)),
        ("2147483647", Some(MAX_SECONDS)),
        ("2147483648", None),
        ("99999999999999999999999", None),
        ("9999w9999w", None),
        ("", None),
        ("h", None),
        ("1x", None),
        ("-1", None),
    ] {
        assert_eq!(seconds(text).ok(), expected, "{text}");
    }
}

/// Names of whatever octets, and data of the types that have names in them.
fn entry() -> impl Strategy<Value = Entry> {
    let label = proptest::collection::vec(any::<u8>(), 1..6);
    let name = |label| {
        proptest::collection::vec(label, 0..3).prop_map(|labels: Vec<Vec<u8>>| {
            labels.iter().fold(origin(), |name, label| name.child(label).unwrap())
        })
    };
    let data = prop_oneof![
        name(label.clone()).prop_map(|n| (WrittenType::Of(RecordType::CNAME), n.wire().to_vec())),
        name(label.clone()).prop_map(|n| (WrittenType::Alias, n.wire().to_vec())),
        any::<[u8; 4]>().prop_map(|a| (WrittenType::Of(RecordType::A), a.to_vec())),
        proptest::collection::vec(any::<u8>(), 0..30).prop_map(|text| (
            WrittenType::Of(RecordType::TXT),
            [vec![text.len() as u8], text].concat()
        )),
        proptest::collection::vec(any::<u8>(), 0..30)
            .prop_map(|bytes| (WrittenType::Of(RecordType(65_280)), bytes)),
    ];
    (name(label), proptest::option::of(0..=MAX_SECONDS), data)
        .prop_map(|(name, ttl, (rtype, data))| Entry { name, ttl, rtype, data, line: 0 })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(entries in proptest::collection::vec(entry(), 0..20)) {
        let records = entries.iter().map(|e| (&e.name, e.ttl, e.rtype, &e.data));
        let text = write(&origin(), 300, records);
        let read = super::tests::entries(&text).map_err(|problems| problems.to_string());
        let read: Vec<_> = read.unwrap().into_iter().map(|e| Entry { line: 0, ..e }).collect();
        let with_default = |e: Entry| Entry { ttl: e.ttl.or(Some(300)), ..e };
        let entries: Vec<_> = entries.into_iter().map(with_default).collect();
        prop_assert_eq!(read, entries, "{}", text);
    }

    #[test]
    fn no_file_makes_it_panic(text in "[ -~\n\t\r\\\\\"();$@é]{0,200}") {
        let _ = entries(&text);
    }
}
