//! What is claimed of a body's way through, whichever kind it is of.

use futures::{FutureExt, StreamExt};
use http::HeaderValue;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;

use super::super::room::Rooms;
use super::*;
use crate::credentials::known;

const TOKEN: &str = "bulkhead-00112233445566778899aabbccddeeff";
const OTHER: &str = "bulkhead-ffeeddccbbaa99887766554433221100";
const STRANGE: &str = "bulkhead-0123456789abcdef0123456789abcdef";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
/// Values that would change the structure around them if they were pasted in.
const HOSTILE: [&str; 8] = [
    "x&admin=1",
    "x;admin=1&a=%26b+c",
    "\",\"role\":\"admin",
    "\\\",\"role\":\"admin\\",
    "a\u{0}b\r\n\u{7f}\u{2028}",
    "ä€𝄞 /?#[]@!$'()*,;=~-._%",
    "x=y",
    TOKEN,
];

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

/// An instance with two placeholders, and what those are bound to.
fn held(value: &str) -> Arc<Placeholders> {
    const SECRETS: &str = r#"
        [secrets.token]
        why = "w"
        hosts = ["api.example.com"]
        places = ["form:key", "json:/auth/key", "json:/list/1/a~1b~0"]
        [secrets.other]
        why = "w"
        hosts = ["api.example.com"]
        places = ["form:second", "json:/auth/second"]
    "#;
    known(SECRETS, &[("token", TOKEN, value), ("other", OTHER, "0ther-value")])
}

/// An instance that has no placeholders, and never will.
fn powerless() -> Arc<Placeholders> {
    known("", &[])
}

/// Both secrets' places.
fn places() -> Vec<(SecretName, Place)> {
    let place = |text: &str| Place::try_from(text.to_owned()).unwrap();
    vec![
        (name("token"), place("form:key")),
        (name("token"), place("json:/auth/key")),
        (name("token"), place("json:/list/1/a~1b~0")),
        (name("other"), place("form:second")),
        (name("other"), place("json:/auth/second")),
    ]
}

fn head(content_type: &str) -> HeaderMap {
    let mut head = HeaderMap::new();
    head.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
    head.insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
    head
}

type Inner = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, ()>>>>;

fn body(pieces: impl IntoIterator<Item = Vec<u8>>) -> Inner {
    let pieces: Vec<_> = pieces.into_iter().map(|piece| Ok(Frame::data(Bytes::from(piece)))).collect();
    StreamBody::new(futures::stream::iter(pieces))
}

/// What left, and the fault that ended it.
#[derive(Debug, PartialEq)]
struct Sent {
    bytes: Vec<u8>,
    fault: Option<Fault>,
}

impl Sent {
    fn text(&self) -> &str {
        assert_eq!(self.fault, None, "{}", String::from_utf8_lossy(&self.bytes));
        std::str::from_utf8(&self.bytes).unwrap()
    }
}

fn send(content_type: &str, value: &str, pieces: impl IntoIterator<Item = Vec<u8>>) -> Sent {
    let terms = Terms {
        placeholders: held(value),
        places: places(),
        limit: u64::MAX,
        room: Rooms::new().room(),
        sealed: false,
    };
    let mut bytes = Vec::new();
    let fault = match filled(body(pieces), &mut head(content_type), terms).now_or_never().unwrap() {
        Err(Broken::Fault(fault)) => Some(fault),
        Err(Broken::Inner(())) => unreachable!(),
        Ok(mut filled) => loop {
            match filled.frame().now_or_never().unwrap() {
                None => break None,
                Some(Ok(frame)) => bytes.extend(frame.into_data().unwrap()),
                Some(Err(Broken::Fault(fault))) => break Some(fault),
                Some(Err(Broken::Inner(()))) => unreachable!(),
            }
        },
    };
    Sent { bytes, fault }
}

fn send_whole(content_type: &str, value: &str, body: &str) -> Sent {
    send(content_type, value, [body.as_bytes().to_vec()])
}

/// `bytes` cut after each of these lengths, again and again.
fn cut(bytes: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces
}

#[test]
fn a_placeholder_becomes_its_value_in_its_place() {
    for (content_type, body, expected) in [
        (FORM, format!("a=1&key={TOKEN}"), "a=1&key=v%40lue-1"),
        (FORM, format!("second={OTHER}&key={TOKEN}&"), "second=0ther-value&key=v%40lue-1"),
        (FORM, format!("&&k%65y={}&b", TOKEN.replace('-', "%2d")), "key=v%40lue-1&b"),
        (FORM, "a=b=c&a=&=&%zz=%&d=1+2;e=%C3%28".to_owned(), "a=b%3Dc&a=&=&%25zz=%25&d=1%202%3Be%3D%C3%28"),
        (JSON, format!(r#"{{"auth": {{"key": "{TOKEN}"}}}}"#), r#"{"auth":{"key":"v@lue-1"}}"#),
        (
            JSON,
            format!(r#"{{"auth":{{"key":"\u0062ulkhead\u002d{}"}}}}"#, &TOKEN[9..]),
            r#"{"auth":{"key":"v@lue-1"}}"#,
        ),
        (
            JSON,
            format!(r#"{{"\u0061uth":{{"second":"{OTHER}","key":"{TOKEN}"}}}}"#),
            r#"{"auth":{"second":"0ther-value","key":"v@lue-1"}}"#,
        ),
        (JSON, format!(r#"{{"list":[{{}},{{"a/b~":"{TOKEN}"}}]}}"#), r#"{"list":[{},{"a/b~":"v@lue-1"}]}"#),
        (JSON, format!(r#"{{"list":{{"1":{{"a/b~":"{TOKEN}"}}}}}}"#), r#"{"list":{"1":{"a/b~":"v@lue-1"}}}"#),
        ("application/vnd.api+json", format!(r#"{{"auth":{{"key":"{TOKEN}"}}}}"#), r#"{"auth":{"key":"v@lue-1"}}"#),
        // A place need not be used.
        (JSON, r#"{"auth": {"key": "own"}}"#.to_owned(), r#"{"auth":{"key":"own"}}"#),
        (JSON, String::new(), ""),
        (FORM, String::new(), ""),
        // What is no placeholder of this instance is text.
        (FORM, format!("a={STRANGE}"), "a=bulkhead-0123456789abcdef0123456789abcdef"),
    ] {
        assert_eq!(send_whole(content_type, "v@lue-1", &body).text(), expected, "{body}");
    }
}

#[test]
fn a_placeholder_anywhere_else_breaks_the_request_off() {
    let multipart = format!("--x\r\ncontent-disposition: form-data; name=\"key\"\r\n\r\n{TOKEN}\r\n--x--\r\n");
    for (content_type, body) in [
        (FORM, format!("comment={TOKEN}")),
        (FORM, format!("{TOKEN}=x")),
        (FORM, TOKEN.to_owned()),
        (FORM, format!("key=a{TOKEN}")),
        (FORM, format!("key={TOKEN}a")),
        (FORM, format!("key={TOKEN}{TOKEN}")),
        (FORM, format!("key=%20{TOKEN}")),
        (FORM, format!("KEY={TOKEN}")),
        (FORM, format!("key[]={TOKEN}")),
        (FORM, format!("second={TOKEN}")),
        (FORM, format!("a={}", TOKEN.replace('b', "%62"))),
        (FORM, format!("auth[key]={TOKEN}")),
        (JSON, format!(r#"{{"comment":"{TOKEN}"}}"#)),
        (JSON, format!(r#"{{"{TOKEN}":1}}"#)),
        (JSON, format!(r#"{{"auth":{{"key":{{"{TOKEN}":1}}}}}}"#)),
        (JSON, format!(r#"{{"auth":{{"key":["{TOKEN}"]}}}}"#)),
        (JSON, format!(r#"{{"auth":{{"key":" {TOKEN}"}}}}"#)),
        (JSON, format!(r#"{{"auth":{{"key":"{TOKEN} "}}}}"#)),
        (JSON, format!(r#"{{"auth":{{"second":"{TOKEN}"}}}}"#)),
        (JSON, format!(r#"{{"auth":{{"Key":"{TOKEN}"}}}}"#)),
        (JSON, format!(r#"{{"auth":[{{"key":"{TOKEN}"}}]}}"#)),
        (JSON, format!(r#"{{"auth":"{TOKEN}"}}"#)),
        (JSON, format!(r#"{{"key":"{TOKEN}"}}"#)),
        (JSON, format!(r#"{{"x":{{"auth":{{"key":"{TOKEN}"}}}}}}"#)),
        (JSON, format!(r#"{{"auth":{{"x":{{}},"y":"{TOKEN}"}}}}"#)),
        (JSON, format!(r#"{{"auth":{{}},"key":"{TOKEN}"}}"#)),
        (JSON, format!(r#"{{"list":[{{"a/b~":"{TOKEN}"}},1]}}"#)),
        (JSON, format!(r#"{{"list":[0,[],{{"a/b~":"{TOKEN}"}}]}}"#)),
        (JSON, format!(r#"{{"list":{{"01":{{"a/b~":"{TOKEN}"}}}}}}"#)),
        (JSON, format!(r#"["{TOKEN}"]"#)),
        (JSON, format!(r#""{TOKEN}""#)),
        // Written anew, an escaped one would be plain.
        (JSON, format!(r#"{{"comment":"\u0062{}"}}"#, &TOKEN[1..])),
        // A kind of body without a place in it.
        ("text/plain", format!("key={TOKEN}")),
        ("application/xml", format!("<key>{TOKEN}</key>")),
        ("multipart/form-data; boundary=x", multipart),
        ("application/json; charset=utf-16", format!(r#"{{"auth":{{"key":"{TOKEN}"}}}}"#)),
    ] {
        let sent = send_whole(content_type, "v@lue-1", &body);
        assert_eq!(sent.fault, Some(Fault::Misplaced(name("token"))), "{content_type} {body}");
        assert!(!String::from_utf8_lossy(&sent.bytes).contains("bulkhead-"), "{body}");
    }
}

#[test]
fn a_place_that_is_there_twice_breaks_the_request_off() {
    for (content_type, body) in [
        (FORM, format!("key={TOKEN}&key=x")),
        (FORM, format!("key=x&a=1&k%65y={TOKEN}")),
        (FORM, "key&key".to_owned()),
        (JSON, format!(r#"{{"auth":{{"key":"{TOKEN}","key":"x"}}}}"#)),
        (JSON, format!(r#"{{"auth":{{"key":"{TOKEN}","\u006bey":"x"}}}}"#)),
        (JSON, format!(r#"{{"auth":{{"key":"{TOKEN}"}},"auth":{{}}}}"#)),
        (JSON, r#"{"auth":1,"a":{"auth":2},"auth":3}"#.to_owned()),
        (JSON, r#"{"list":[0,{"a/b~":1,"a/b~":2}]}"#.to_owned()),
    ] {
        assert_eq!(send_whole(content_type, "v", &body).fault, Some(Fault::Repeated(name("token"))), "{body}");
    }
    // Elsewhere it is nobody's concern.
    assert_eq!(send_whole(FORM, "v", "a=1&a=2").text(), "a=1&a=2");
    assert_eq!(send_whole(JSON, "v", r#"{"a":1,"a":2,"b":{"auth":{"key":1,"key":2}}}"#).text().len(), 44);
}

#[test]
fn no_value_changes_the_structure_around_it() {
    for value in HOSTILE {
        let sent = send_whole(FORM, value, &format!("a=1&key={TOKEN}&b=2"));
        let read: Vec<_> = form_urlencoded::parse(&sent.bytes).into_owned().collect();
        assert_eq!(read, [("a", "1"), ("key", value), ("b", "2")].map(|(name, value)| (name.into(), value.into())));
        assert!(sent.text().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%&=-._~".contains(&byte)));
        let sent = send_whole(JSON, value, &format!(r#"{{"a":1,"auth":{{"key":"{TOKEN}","b":2}}}}"#));
        let read: serde_json::Value = serde_json::from_str(sent.text()).unwrap();
        assert_eq!(read, serde_json::json!({ "a": 1, "auth": { "key": value, "b": 2 } }));
    }
}

#[test]
fn what_is_no_json_breaks_the_request_off() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for body in [
        " ",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "[1 2]",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "0x1",
        "NaN",
        "tru",
        "nullx",
        "[]x",
        "{}{}",
        "{\"a\" 1}",
        "{\"a\"}",
        "{1:2}",
        "]",
        "[}",
        "// a\n1",
        "\"\\x41\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"a\nb\"",
        "\"a",
        "\u{a0}1",
        "\u{feff}\u{feff}1",
        "\"\\u00e\"",
        ",",
        "[\"a\",\u{0}]",
    ] {
        assert!(serde_json::from_str::<serde_json::Value>(body).is_err(), "{body}");
        assert!(matches!(send_whole(JSON, "v", body).fault, Some(Fault::Malformed(_))), "{body}");
    }
    assert!(matches!(send(JSON, "v", [b"\"\xff\"".to_vec()]).fault, Some(Fault::Malformed(1))));
    assert_eq!(send_whole(JSON, "v", &deep(128)).text(), deep(128));
    assert!(matches!(send_whole(JSON, "v", &deep(129)).fault, Some(Fault::Malformed(_))));
}

#[test]
fn numbers_keep_their_text() {
    let text = "[0,-0,1E400,0.10,123456789012345678901234567890,1e-7,2.5E+3]";
    assert_eq!(send_whole(JSON, "v", text).text(), text);
}

#[test]
fn a_token_that_cannot_be_held_breaks_the_request_off() {
    for (content_type, before) in [(JSON, "\""), (FORM, "a=")] {
        let long =
            |length: usize| format!("{before}{}{}", "x".repeat(length - before.len() * 2), before.replace("a=", "xx"));
        let fits = long(LONGEST_TOKEN);
        assert_eq!(send(content_type, "v", cut(fits.as_bytes(), &[1 << 16])).text(), fits);
        let fault = send(content_type, "v", cut(long(LONGEST_TOKEN + (1 << 16) + 1).as_bytes(), &[1 << 16])).fault;
        assert_eq!(fault, Some(Fault::Unwieldy(LONGEST_TOKEN)), "{content_type}");
    }
}

#[test]
fn a_token_that_has_to_be_held_waits_for_room_and_a_short_one_does_not() {
    let rooms = Rooms::new();
    for (content_type, before) in [(JSON, "\""), (FORM, "a=")] {
        let long = format!("{before}{}{before}", "x".repeat(300_000)).replace("xa=", "x");
        let short = format!("{before}0123456789{before}").replace("9a=", "9");
        let fill = |text: &str| {
            let pieces = cut(text.as_bytes(), &[1 << 16]);
            let terms =
                Terms { placeholders: held("v"), places: places(), limit: u64::MAX, room: rooms.room(), sealed: false };
            async move {
                let filled = filled(body(pieces), &mut head(content_type), terms).await;
                filled
                    .map_err(|_| "it broke")
                    .unwrap()
                    .collect()
                    .await
                    .map_err(|_| "it broke")
                    .unwrap()
                    .to_bytes()
                    .len()
            }
        };
        let mut others = rooms.room();
        others.expect(super::super::room::TOTAL);
        std::future::poll_fn(|cx| others.poll_hold(u64::MAX, cx)).now_or_never().unwrap();
        let mut waiting = Box::pin(fill(&long));
        assert!(waiting.as_mut().now_or_never().is_none(), "{content_type}");
        assert!(fill(&short).now_or_never().is_some(), "{content_type}");
        drop(others);
        assert_eq!(waiting.now_or_never(), Some(long.len()), "{content_type}");
    }
}

#[test]
fn a_compressed_body_is_refused_where_placeholders_are_in_play() {
    let mut head = head(JSON);
    head.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let mut sent = |placeholders| {
        let terms = Terms { placeholders, places: Vec::new(), limit: 9, room: Rooms::new().room(), sealed: false };
        filled(body([vec![1]]), &mut head, terms).now_or_never().unwrap().map(|_| ())
    };
    assert!(matches!(sent(held("v")), Err(Broken::Fault(Fault::Encoded))));
    assert!(sent(powerless()).is_ok());
}

#[test]
fn a_placeholder_that_is_given_out_while_a_body_is_sent_is_found_in_it() {
    let (placeholders, _) = crate::credentials::placeholders("value-of-token");
    let later = Arc::clone(&placeholders);
    let pieces = futures::stream::iter([false, true]).map(move |late| {
        let piece = if late { later.get("token").unwrap().to_string() } else { "before ".to_owned() };
        Ok::<_, ()>(Frame::data(Bytes::from(piece)))
    });
    let terms = Terms { placeholders, places: Vec::new(), limit: u64::MAX, room: Rooms::new().room(), sealed: false };
    let mut filled = filled(StreamBody::new(pieces), &mut head("text/plain"), terms).now_or_never().unwrap().unwrap();
    let first = filled.frame().now_or_never().unwrap().unwrap();
    assert!(matches!(first, Err(Broken::Fault(Fault::Misplaced(_)))));
    assert!(filled.frame().now_or_never().unwrap().is_none(), "nothing comes after a fault");
}

#[test]
fn a_body_is_bounded_before_it_is_rewritten_and_has_no_trailers() {
    let sent = |frames: Vec<Frame<Bytes>>| {
        let terms =
            Terms { placeholders: held("v"), places: places(), limit: 9, room: Rooms::new().room(), sealed: false };
        let body = StreamBody::new(futures::stream::iter(frames.into_iter().map(Ok::<_, ()>)));
        filled(body, &mut head(JSON), terms).now_or_never().unwrap().map(|_| ())
    };
    let space = || Frame::data(Bytes::from_static(b"     "));
    assert!(matches!(sent(vec![space(), space()]), Err(Broken::Fault(Fault::TooLarge(9)))));
    assert!(matches!(sent(vec![Frame::trailers(HeaderMap::new())]), Err(Broken::Fault(Fault::Trailers))));
}

#[test]
fn a_rewritten_body_has_its_own_length() {
    let begin = |content_type: &str, placeholders: Arc<Placeholders>, pieces: Vec<Vec<u8>>| {
        let mut head = head(content_type);
        let terms = Terms { placeholders, places: places(), limit: u64::MAX, room: Rooms::new().room(), sealed: false };
        let filled = filled(body(pieces), &mut head, terms).now_or_never().unwrap().map_err(|_| ()).unwrap();
        let claims = head.contains_key(header::CONTENT_LENGTH);
        (filled.size_hint().exact(), claims, filled.is_end_stream())
    };
    let short = format!("key={TOKEN}").into_bytes();
    assert_eq!(begin(FORM, held("value"), cut(&short, &[3])), (Some(9), false, false));
    assert_eq!(begin(FORM, held("value"), vec![]), (Some(0), false, true));
    let long = format!("key={TOKEN}{}", "&a=xxxx".repeat(10_000)).into_bytes();
    assert_eq!(begin(FORM, held("value"), cut(&long, &[1 << 14])), (None, false, false));
    // One that is only watched is neither waited for, nor given another length.
    assert_eq!(begin("text/plain", held("value"), vec![b"x".to_vec()]), (None, true, false));
    assert_eq!(begin(FORM, powerless(), vec![b"x".to_vec()]), (None, true, false));
}

#[test]
fn a_hint_of_a_watched_body_counts_what_is_held_back() {
    let terms = Terms {
        placeholders: held("v"),
        places: Vec::new(),
        limit: u64::MAX,
        room: Rooms::new().room(),
        sealed: false,
    };
    let inner = http_body_util::Full::new(Bytes::from_static(&[b'x'; 100]));
    let mut filled = filled(inner, &mut head("text/plain"), terms).now_or_never().unwrap().map_err(|_| ()).unwrap();
    assert_eq!(filled.size_hint().exact(), Some(100));
    let first = filled.frame().now_or_never().unwrap().unwrap().unwrap().into_data().unwrap().len() as u64;
    assert_eq!(filled.size_hint().exact(), Some(100 - first));
    assert!(first < 100 && !filled.is_end_stream());
    filled.frame().now_or_never().unwrap().unwrap().unwrap();
    assert!(filled.is_end_stream());
}

#[test]
fn what_is_held_back_of_a_watched_body_depends_on_no_content() {
    let released = |text: &str| {
        let (mut watch, mut out) = (Watch::new(held("v")), Pieces::default());
        let mut step = |byte| {
            watch.push(&[byte], &mut out).unwrap();
            out.take().map_or(0, |piece| piece.len())
        };
        text.bytes().map(&mut step).collect::<Vec<_>>()
    };
    let near = format!("{}{}", &TOKEN[..TOKEN.len() - 1], "z".repeat(100));
    assert_eq!(released(&near), released(&"y".repeat(near.len())));
}

/// A document with placeholders here and there.
fn document() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Map, Value};
    let text = prop_oneof![
        4 => Just(TOKEN.to_owned()), 1 => Just(OTHER.to_owned()), 1 => Just(STRANGE.to_owned()),
        1 => Just(format!("x{TOKEN}")), 12 => any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(|number: f64| Value::from(number)),
        text.prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("auth".to_owned()),
        Just("key".to_owned()),
        Just("second".to_owned()),
        Just("list".to_owned()),
        Just("a/b~".to_owned()),
        any::<String>(),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone(), inner, 0..5)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The document with its places filled, and whether a placeholder is left.
fn filled_by_hand(mut document: serde_json::Value, value: &str) -> (serde_json::Value, bool) {
    for (pointer, placeholder, value) in
        [("/auth/key", TOKEN, value), ("/list/1/a~1b~0", TOKEN, value), ("/auth/second", OTHER, "0ther-value")]
    {
        match document.pointer_mut(pointer) {
            Some(found) if found == placeholder => *found = value.into(),
            _ => {}
        }
    }
    let text = document.to_string();
    let left = [TOKEN, OTHER].iter().any(|placeholder| text.contains(placeholder));
    (document, left)
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(prop_oneof![1_usize..4, 1_usize..60], 1..20)
}

proptest! {
    #[test]
    fn json_is_rewritten_as_another_reader_reads_it(document in document(), pretty: bool, lengths in lengths()) {
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
        let (expected, left) = filled_by_hand(serde_json::from_str(&text).unwrap(), "a\"v@lue\\");
        let sent = send(JSON, "a\"v@lue\\", cut(text.as_bytes(), &lengths));
        if left {
            prop_assert!(matches!(sent.fault, Some(Fault::Misplaced(_))), "{sent:?}");
        } else {
            prop_assert_eq!(&sent.fault, &None);
            let read: serde_json::Value = serde_json::from_slice(&sent.bytes).unwrap();
            prop_assert_eq!(&read, &expected);
        }
        prop_assert_eq!(sent, send_whole(JSON, "a\"v@lue\\", &text));
    }

    #[test]
    fn whatever_comes_in_is_refused_or_read_alike(
        parts in proptest::collection::vec("[\\[\\]{},:\"\\\\ \n0-9eE.+-]|\"[a-z]{0,3}\"|\\\\u[0-9a-fD-F]{3,4}|true|null|auth|[^a]", 0..12),
        lengths in lengths(),
    ) {
        let text = parts.concat();
        let sent = send(JSON, "v", cut(text.as_bytes(), &lengths));
        prop_assert_eq!(&sent, &send_whole(JSON, "v", &text));
        let read = serde_json::from_str::<&serde_json::value::RawValue>(&text);
        if let (None, false) = (&sent.fault, text.is_empty()) {
            // A byte order mark is left out.
            let text = text.trim_start_matches('\u{feff}');
            let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).map_err(|error| error.to_string());
            prop_assert_eq!(value(sent.text()).ok(), value(text).ok());
        } else if sent.fault.is_some() && read.is_ok() {
            // Half a surrogate pair, and a number that no `f64` holds, are in the grammar.
            prop_assert!(text.contains("\\u") || matches!(sent.fault, Some(Fault::Repeated(_))), "{}", text);
        }
    }

    #[test]
    fn a_form_is_rewritten_as_another_reader_reads_it(
        fields in proptest::collection::vec(
            (prop_oneof![Just("key".to_owned()), any::<String>()], prop_oneof![Just(TOKEN.to_owned()), any::<String>()]),
            0..6,
        ),
        lengths in lengths(),
    ) {
        let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
        let sent = send(FORM, "x&admin=1", cut(text.as_bytes(), &lengths));
        prop_assert_eq!(&sent, &send_whole(FORM, "x&admin=1", &text));
        let misplaced = fields.iter().any(|(name, value)| name != "key" && value == TOKEN);
        let twice = fields.iter().filter(|(name, _)| name == "key").count() > 1;
        match &sent.fault {
            Some(Fault::Misplaced(_)) => prop_assert!(misplaced),
            Some(Fault::Repeated(_)) => prop_assert!(twice),
            fault => {
                prop_assert_eq!(fault, &None);
                prop_assert!(!misplaced && !twice);
                let swapped = |(name, value): (String, String)| {
                    let value = if value == TOKEN { "x&admin=1".to_owned() } else { value };
                    (name, value)
                };
                let expected: Vec<_> = fields.into_iter().map(swapped).collect();
                prop_assert_eq!(form_urlencoded::parse(&sent.bytes).into_owned().collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn nothing_of_a_misplaced_placeholder_leaves(
        before in proptest::collection::vec(any::<u8>(), 0..100), after in proptest::collection::vec(any::<u8>(), 0..50),
        near in 0_usize..41, lengths in lengths(),
    ) {
        // What looks like the beginning of one stands before it.
        let text = [&before, &TOKEN.as_bytes()[..near], TOKEN.as_bytes(), &after].concat();
        let sent = send("application/octet-stream", "v", cut(&text, &lengths));
        prop_assert_eq!(sent.fault, Some(Fault::Misplaced(name("token"))));
        prop_assert!(sent.bytes.len() <= before.len() + near);
        prop_assert!(text.starts_with(&sent.bytes));
    }

    #[test]
    fn a_watched_body_is_sent_as_it_is(bytes in proptest::collection::vec(any::<u8>(), 0..300), lengths in lengths()) {
        prop_assert_eq!(send("text/plain", "v", cut(&bytes, &lengths)), Sent { bytes, fault: None });
    }
}

proptest! {
    // Each is long enough to be under way.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn nothing_of_a_misplaced_placeholder_leaves_a_long_rewritten_body(lengths in lengths(), which in 0_usize..4) {
        let filler: String = "a=xxxxxxxx&".repeat(8_000);
        let (content_type, text) = match which {
            0 => (FORM, format!("{filler}b={TOKEN}")),
            1 => (FORM, format!("{filler}{TOKEN}=b")),
            2 => (JSON, format!("[{}\"{TOKEN}\"]", "\"xxxxxxx\",".repeat(8_000))),
            _ => (JSON, format!("{{{}\"{TOKEN}\":1}}", "\"xxxxxxx\":0,".repeat(8_000))),
        };
        let lengths: Vec<usize> = lengths.iter().map(|length| length * 97).collect();
        let sent = send(content_type, "v", cut(text.as_bytes(), &lengths));
        prop_assert_eq!(sent.fault, Some(Fault::Misplaced(name("token"))));
        prop_assert!(!sent.bytes.is_empty(), "it was under way");
        prop_assert!(text.as_bytes().starts_with(&sent.bytes));
    }
}
