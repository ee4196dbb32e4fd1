//! What a server says to what is asked rightly and wrongly (RFC 8906 section 8, RFC 6891, RFC 8482).

use hickory_proto::op::ResponseCode;
use weir_config::RecordType;
use weir_dns::Options;

use crate::{
    harness::{Answer, Served, question, question_of, with_edns},
    zones::{name, zone},
};

const ZONE: &str = "
    example. 3600 IN SOA ns.example. admin.example. 1 2 3 4 300
    example. 3600 IN NS ns.example.
    example. 3600 IN TXT some
    ns.example. 3600 IN A 192.0.2.1
    ns.example. 3600 IN AAAA 2001:db8::1
    www.example. 60 IN CNAME ns.example.
    child.example. 3600 IN NS ns.child.example.
    child.example. 3600 IN DS 12345 8 2 aabb
    ns.child.example. 3600 IN A 192.0.2.2";

fn served() -> Served {
    let nsid = Some(b"here".to_vec().into());
    Served::with([zone(ZONE)], &Options { nsid, ..Options::default() })
}

fn soa() -> Vec<u8> {
    question(&name("example"), RecordType::SOA)
}

/// RFC 8906 section 8.1.
#[test]
fn questions_without_edns() {
    let served = served();
    let answer = served.ask_bytes(&soa());
    assert_eq!((answer.rcode, answer.authoritative), (ResponseCode::NoError, true));
    assert_eq!(answer.answer[0].rtype, RecordType::SOA);
    assert!(answer.edns.is_none());

    // 8.1.2: a type that nobody knows.
    let answer = served.ask("example", "TYPE1000");
    assert_eq!((answer.rcode, answer.answer.len()), (ResponseCode::NoError, 0));
    assert!(answer.authoritative && answer.authority[0].rtype == RecordType::SOA);

    // 8.1.3: header bits CD, AD, Z, RD.
    for (octet, bit, is_copied) in
        [(3, 0x10, true), (3, 0x20, false), (3, 0x40, false), (2, 0x01, true)]
    {
        let mut message = soa();
        (message[2], message[3]) = (0, 0);
        message[octet] |= bit;
        let answer = served.ask_bytes(&message);
        assert_eq!((answer.rcode, answer.answer.len()), (ResponseCode::NoError, 1), "{bit:x}");
        assert_eq!(answer.bytes[octet] & bit != 0, is_copied, "{octet} {bit:x}");
        assert_eq!(answer.bytes[3] & 0x80, 0, "no recursion is available");
    }

    // 8.1.4: an opcode that nobody knows, of a message that is a header and nothing else.
    let mut message = vec![0x12, 0x34, 15 << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let answer = served.ask_bytes(&message);
    assert_eq!((answer.rcode, answer.authoritative), (ResponseCode::NotImp, false));
    assert_eq!((answer.bytes.len(), answer.bytes[2]), (12, 0x80 | 15 << 3));
    // A dynamic update, and a notification.
    for opcode in [5, 4] {
        message = soa();
        message[2] = opcode << 3;
        assert_eq!(served.ask_bytes(&message).rcode, ResponseCode::NotImp);
    }
}

/// RFC 8906 section 8.2.
#[test]
fn questions_with_edns() {
    let served = served();
    let ask =
        |payload, ttl, options: &[u8]| served.ask_bytes(&with_edns(soa(), payload, ttl, options));
    let answer = ask(4096, 0, &[]);
    let edns = answer.edns.unwrap();
    assert_eq!((edns.max_payload(), edns.version(), answer.answer.len()), (1232, 0, 1));

    // 8.2.2, 8.2.5: a version that nobody knows, and an option in it.
    for options in [&[][..], &[0, 100, 0, 0]] {
        let answer = ask(4096, 1 << 16, options);
        assert_eq!((u16::from(answer.rcode), answer.answer.len()), (16, 0), "BADVERS");
        let edns = answer.edns.unwrap();
        assert_eq!((edns.version(), edns.options().as_ref().len()), (0, 0));
    }
    // 8.2.3: an option that nobody knows is left out of the answer.
    let answer = ask(4096, 0, &[0, 100, 0, 0]);
    assert_eq!((answer.rcode, answer.answer.len()), (ResponseCode::NoError, 1));
    assert!(answer.edns.unwrap().options().as_ref().is_empty());
    // 8.2.4: a flag that nobody knows is not set in the answer; 8.2.6: DO is.
    let answer = ask(4096, 0x40, &[]);
    assert_eq!(
        (answer.rcode, answer.edns.unwrap().flags().dnssec_ok),
        (ResponseCode::NoError, false)
    );
    let answer = ask(4096, 0x8040, &[]);
    assert!(answer.edns.as_ref().unwrap().flags().dnssec_ok);
    assert_eq!(answer.bytes[answer.bytes.len() - 3], 0);
    // 8.2.8: several options. The name of the server is told to those who ask.
    let subnet = [0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2];
    let asked = [&[0, 3, 0, 0][..], &subnet].concat();
    let answer = ask(4096, 0, &asked);
    let told = [&[0, 3, 0, 4][..], b"here", &subnet].concat();
    assert!(answer.bytes.ends_with(&told), "{:02x?}", answer.bytes);
}

#[test]
fn what_is_malformed_is_told_and_what_is_no_question_gets_nothing() {
    let served = served();
    let two = [&soa()[..], &soa()[12..]].concat();
    let mut two_questions = two.clone();
    two_questions[5] = 2;
    let mut compressed = soa();
    compressed.splice(12..21, [0xc0, 12]);
    let mut long = soa();
    long.splice(12..12, [&[63][..], &[b'x'; 63]].concat().repeat(4));
    for (what, message) in [
        ("two questions", two_questions),
        ("octets after the end", two),
        ("a name that points to itself", compressed),
        ("a name of more than 255 octets", long),
        ("a question that ends too early", soa()[..soa().len() - 1].to_vec()),
        ("two OPT records", with_edns(with_edns(soa(), 1232, 0, &[]), 1232, 0, &[])),
        (
            "a cookie of seven octets",
            with_edns(soa(), 1232, 0, &[0, 10, 0, 7, 1, 2, 3, 4, 5, 6, 7]),
        ),
        ("an option that ends too early", with_edns(soa(), 1232, 0, &[0, 10, 0, 9, 1])),
        ("no question", soa()[..4].iter().copied().chain([0; 8]).collect()),
        ("a question for OPT", question(&name("example"), RecordType::OPT)),
    ] {
        assert_eq!(served.ask_bytes(&message).rcode, ResponseCode::FormErr, "{what}");
    }
    let mut response = soa();
    response[2] |= 0x80;
    let silent = [response, soa()[..11].to_vec(), vec![]];
    assert!(served.fast.is_silent_to(&silent) && served.slow.is_silent_to(&silent));
}

#[test]
fn what_is_not_ours_is_refused() {
    let served = served();
    for (owner, rtype, class) in [
        ("com", RecordType::SOA, 1),
        (".", RecordType::NS, 1),
        ("version.bind", RecordType::TXT, 3),
        ("version.server", RecordType::TXT, 3),
        ("example", RecordType::SOA, 255),
        ("example", RecordType::AXFR, 1),
    ] {
        let answer = served.ask_bytes(&question_of(name(owner).wire(), rtype, class));
        assert_eq!(answer.rcode, ResponseCode::Refused, "{owner}");
        assert!(!answer.authoritative && answer.answer.is_empty() && answer.authority.is_empty());
    }
    let mail = question(&name("example"), RecordType::MAILB);
    assert_eq!(served.ask_bytes(&mail).rcode, ResponseCode::NotImp);
}

#[test]
fn any_gets_one_set() {
    let answer = served().ask("ns.example", "ANY");
    assert_eq!(answer.answer.iter().map(|r| r.rtype).collect::<Vec<_>>(), [RecordType::A]);
}

#[test]
fn a_name_is_answered_in_the_case_in_which_it_was_asked_for() {
    let served = served();
    let asked = b"\x03wWw\x07eXaMpLe\0";
    let answer = served.ask_bytes(&question_of(asked, RecordType::A, 1));
    assert_eq!(&answer.bytes[12..12 + asked.len()], asked);
    assert_eq!(
        answer.answer.iter().map(|r| r.rtype).collect::<Vec<_>>(),
        [RecordType::A, RecordType::CNAME]
    );
    // Whose it is, is a pointer to the question.
    assert_eq!(&answer.bytes[12 + asked.len() + 4..][..2], [0xc0, 12]);
}

#[test]
fn what_a_parent_says_of_its_child_is_the_parents() {
    let child = zone(
        "child.example. 3600 IN SOA ns.child.example. admin.example. 1 2 3 4 300
         child.example. 3600 IN NS ns.child.example.",
    );
    let mut served = served();
    for is_hosted in [false, true] {
        if is_hosted {
            served.change(|snapshot| snapshot.insert_zone(std::sync::Arc::new(child.clone())));
        }
        let answer = served.ask("child.example", "DS");
        assert!(answer.authoritative && answer.answer.len() == 1, "{answer:?}");
        let answer = served.ask("child.example", "NS");
        assert_eq!((answer.authoritative, answer.answer.len()), (is_hosted, is_hosted.into()));
        assert_eq!(answer.additional.len(), usize::from(!is_hosted), "glue");
    }
}

#[test]
fn a_zone_that_is_not_ready_is_not_answered_for() {
    let served = Served::start([weir_config::Zone::new(name("new.example"))]);
    assert_eq!(served.ask("www.new.example", "A").rcode, ResponseCode::ServFail);
}

#[test]
fn an_answer_that_is_too_long_says_so_and_nothing_else() {
    let many: String = (0..60).map(|i| format!("big.example. 60 IN A 192.0.2.{i}\n")).collect();
    let served = Served::start([zone(&format!("{ZONE}\n{many}"))]);
    let asked = question(&name("big.example"), RecordType::A);
    // 60 records of 16 octets after a header and a question of 29.
    for (message, is_whole) in [
        (asked.clone(), false),
        (with_edns(asked.clone(), 512, 0, &[]), false),
        (with_edns(asked.clone(), 999, 0, &[]), false),
        (with_edns(asked.clone(), 1000, 0, &[]), true),
        (with_edns(asked.clone(), 0, 0, &[]), false),
        (with_edns(asked.clone(), 65535, 0, &[]), true),
    ] {
        let answer = served.ask_bytes(&message);
        assert_eq!(
            (answer.truncated, answer.answer.len()),
            match is_whole {
                true => (false, 60),
                false => (true, 0),
            }
        );
        assert_eq!(answer.edns.is_some(), message.len() > asked.len());
    }
    for running in [&served.fast, &served.slow] {
        let answer = Answer::read(&running.connect().ask(&asked));
        assert_eq!((answer.truncated, answer.answer.len()), (false, 60));
    }
}
