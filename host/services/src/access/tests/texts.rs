//! What is read as a policy, and where a text is wrong.

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::text::{bounded, on_a_large_stack, read, understood};
use super::*;

static WORDS: LazyLock<Vocabulary> = LazyLock::new(|| Vocabulary::new().unwrap());

fn judged(text: &str, may_permit: bool) -> Result<usize, Problem> {
    read(text, may_permit, &WORDS).map(|policies| policies.len())
}

/// That a tenant's text is refused at this line and column, with a message that holds `why`.
fn refused(text: &str, (line, column): (usize, usize), why: &str) {
    let problem = judged(text, false).expect_err(text);
    assert_eq!((problem.line, problem.column), (line, column), "{problem}: {text}");
    assert!(problem.message.contains(why), "{problem}: {text}");
}

#[test]
fn statements_are_read() {
    for (text, count) in [
        ("forbid (principal, action, resource);", 1),
        ("// why\nforbid (principal, action, resource);\nforbid (principal is User, action, resource);", 2),
        (
            r#"@reason("x") forbid (principal in Role::"operator", action in Action::"connection:*", resource is Connection);"#,
            1,
        ),
        (r#"forbid (principal, action, resource) when { resource has name && resource.name like "prod-*" };"#, 1),
        (r#"forbid (principal, action, resource) when { context.now.toTime() > duration("8h") };"#, 1),
    ] {
        assert_eq!(judged(text, false), Ok(count), "{text}");
    }
    assert_eq!(judged("permit (principal, action, resource);", true), Ok(1));
}

#[test]
fn a_mistake_is_told_with_its_place() {
    refused("", (0, 0), "no policy");
    refused("forbid (principal, action, resource)\n  when { ;", (2, 10), "unexpected");
    refused("permit (principal, action, resource);", (0, 0), "can only forbid");
    refused(r#"forbid (principal in Role::"opertor", action, resource);"#, (1, 22), "opertor");
    refused(
        "forbid (\n  principal,\n  action == Action::\"connection:destroy\",\n  resource\n);",
        (3, 13),
        "connection:destroy",
    );
    refused("forbid (principal, action, resource) when { resource.environment == \"x\" };", (1, 45), "environment");
    refused("forbid (principal, action, resource) when { principal.tenant == 1 };", (1, 45), "");
    refused(
        "forbid (principal, action, resource) when { context.credential == Credential::\"cookie\" };",
        (1, 67),
        "cookie",
    );
    refused(
        "forbid (principal, action, resource) when { context has address && context.address.isInRange(ip(\"10.0.0.0/33\")) };",
        (1, 94),
        "",
    );
    refused("forbid (principal == ?principal, action, resource);", (0, 0), "slot");
}

#[test]
fn a_policy_that_can_never_apply_is_refused() {
    refused(r#"forbid (principal, action == Action::"connection:read", resource is Release);"#, (1, 1), "");
    refused("forbid (principal, action, resource) when { false };", (1, 1), "");
}

#[test]
fn a_text_has_bounds() {
    let statement = "forbid (principal, action, resource);\n";
    assert!(judged(&statement.repeat(20), false).is_ok());
    refused(&statement.repeat(21), (0, 0), "more than 20 statements");
    refused(&" ".repeat(LARGEST_TEXT + 1), (0, 0), "larger than 16 KiB");
    let nested = |opened: &str, closed: &str, times: usize| {
        format!("forbid (principal, action, resource) when {{ {}true{} }};", opened.repeat(times), closed.repeat(times))
    };
    assert!(judged(&nested("(", ")", 15), false).is_ok());
    refused(&nested("(", ")", 16), (1, 60), "nested deeper");
    // A bracket or a word in a string or a comment is none.
    let harmless = format!(
        r#"forbid (principal, action, resource) when {{ principal.name == "{}\"if if" }}; // {}"#,
        "(".repeat(100),
        "if (".repeat(100)
    );
    assert_eq!(judged(&harmless, false), Ok(1));
}

/// Each of these would be a tree or a recursion as deep as the text is long, in the parser, in the validator or where it is dropped.
#[test]
fn no_text_exhausts_the_stack() {
    let filled = |opened: &str, closed: &str, middle: &str| {
        let room = LARGEST_TEXT - 100 - middle.len();
        let times = room / (opened.len() + closed.len());
        format!(
            "forbid (principal, action, resource) when {{ {}{middle}{} }};",
            opened.repeat(times),
            closed.repeat(times)
        )
    };
    for (opened, closed, middle) in [
        ("(", ")", "true"),
        ("[", "]", "1"),
        ("{a:", "}", "1"),
        ("!", "", "true"),
        ("!(", ")", "true"),
        ("-", "", "1 == 1"),
        ("true && ", "", "true"),
        ("true || ", "", "true"),
        ("1 + ", "", "1 == 1"),
        ("if true then true else ", "", "true"),
        ("if ", " then true else true", "true"),
        ("principal.", "", "name == principal.name"),
        ("principal has a.", "", "b"),
        ("", ".isLoopback()", "principal"),
        ("ip(", ")", "\"1.1.1.1\""),
        ("\"", "", "\""),
        ("/", "", "/"),
        ("\"\\", "", "\""),
    ] {
        let text = filled(opened, closed, middle);
        // What it says matters less than that it says something.
        let _ = judged(&text, true);
    }
    // As deep and as long as is allowed, which has to be handled on an ordinary thread's stack.
    for (opened, closed, middle, times) in [
        ("(", ")", "true", 15),
        ("if true then true else ", "", "true", 15),
        ("principal.name == principal.name || ", "", "principal.name == principal.name", 90),
        ("context.hour + ", "", "context.hour == 3", 190),
        ("principal.name == \"\" && ", "", "principal.name == \"\"", 120),
    ] {
        let text = format!(
            "forbid (principal, action, resource) when {{ {}{middle}{} }};",
            opened.repeat(times),
            closed.repeat(times)
        );
        assert!(
            judged(&text, false).map_or_else(|problem| problem.message.contains("false"), |_| true),
            "{:?}: {text}",
            judged(&text, false)
        );
    }
}

/// Whatever ends a comment for Cedar ends it for the bounds, and a bracket that closes another one, or a statement within one, opens none.
#[test]
fn no_spelling_hides_how_deep_a_text_is() {
    let deep = ["(".repeat(3000), "true".to_owned(), ")".repeat(3000)].concat();
    for before in
        ["//\r", "//\r\r", "// x\r", "//\r\n", "\"//\" == ", "\"\\\"//\" == ", "//\n//\r", "\u{b}\u{c}\u{85}\u{2028}"]
    {
        refused_somewhere(&format!("forbid (principal, action, resource) when {{ {before}{deep} }};"));
    }
    for hidden in ["(]", "({", "(;", "(];", "{)", "[)", "if;", "1if ", "(1if "] {
        refused_somewhere(&format!("forbid (principal, action, resource) when {{ {} }};", hidden.repeat(3000)));
    }
    // A line separator ends no comment, neither here nor there.
    let harmless = format!("forbid (principal, action, resource); // \u{2028}\u{85}{deep}");
    assert_eq!(judged(&harmless, false), Ok(1));
}

fn refused_somewhere(text: &str) {
    let problem = judged(text, true).expect_err(text);
    assert!(problem.message.contains("nested deeper") || problem.message.contains("operators"), "{problem}: {text}");
}

/// What is behind the bounds, in case they overlook something.
#[test]
fn the_deepest_text_there_is_fits_on_the_stack_that_it_is_read_on() {
    for (opened, closed) in [("(", ")"), ("[", "]"), ("{a:", "}"), ("if ", " then true else true"), ("!(", ")")] {
        let times = (LARGEST_TEXT - 100) / (opened.len() + closed.len());
        let (opened, closed) = (opened.repeat(times), closed.repeat(times));
        let text = format!("forbid (principal, action, resource) when {{ {opened}true{closed} }};");
        on_a_large_stack(|| drop(understood(&text, true, &WORDS)));
    }
}

/// Anything that Cedar's lexer knows, and what it does not.
const TOKENS: [&str; 58] = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    ".",
    ",",
    ";",
    ":",
    "::",
    "=",
    "==",
    "!=",
    "<",
    ">=",
    "&&",
    "||",
    "if",
    "then",
    "else",
    "true",
    "false",
    "has",
    "like",
    "is",
    "in",
    "when",
    "unless",
    "forbid",
    "permit",
    "principal",
    "action",
    "resource",
    "context",
    "?principal",
    "@a",
    "a",
    "1",
    "\"x\"",
    "\"\\\"\"",
    "\"",
    "\\",
    "//",
    "//\r",
    "\r",
    "\n",
    "\u{2028}",
    " ",
    "if ",
    "ip",
    "contains",
];
/// What makes an expression of another one.
const AROUND: [(&str, &str); 22] = [
    ("(", ")"),
    ("[", "]"),
    ("{a:", "}"),
    ("!", ""),
    ("-", ""),
    ("true && ", ""),
    ("true || ", ""),
    ("1 + ", ""),
    ("1 * ", ""),
    ("if true then true else ", ""),
    ("if ", " then true else true"),
    ("if true then ", " else true"),
    ("", ".name"),
    ("", "[\"a\"]"),
    ("", ".contains(1)"),
    ("", " + 1"),
    ("ip(", ")"),
    ("//\r", ""),
    ("\"//\" == ", ""),
    ("principal has a.", ""),
    ("", " in [principal]"),
    ("principal in ", ""),
];

fn statement(condition: &str) -> String {
    format!("forbid (principal, action, resource) when {{ {condition} }};")
}

/// Reads what the bounds let through on the stack of this thread, which is an ordinary one: one that is too deep ends the process.
fn holds(text: &str) {
    if text.len() <= LARGEST_TEXT && bounded(text).is_ok() {
        drop(understood(text, true, &WORDS));
    }
}

proptest! {
    #[test]
    fn no_soup_of_tokens_that_is_within_the_bounds_exhausts_an_ordinary_stack(
        soup in vec((vec(select(&TOKENS[..]), 1..4), prop_oneof![3 => Just(1_usize), 1 => 2..4000_usize]), 1..12),
    ) {
        let soup: String = soup.into_iter().map(|(tokens, times)| tokens.concat().repeat(times)).collect();
        let text: String = statement(&soup).chars().take(LARGEST_TEXT / 2).collect();
        holds(&text);
        holds(&soup.chars().take(LARGEST_TEXT / 2).collect::<String>());
    }

    #[test]
    fn no_expression_that_is_within_the_bounds_exhausts_an_ordinary_stack(
        layers in vec((select(&AROUND[..]), prop_oneof![3 => 1..4_usize, 1 => 4..400_usize]), 1..8),
    ) {
        let (mut opened, mut closed) = (String::new(), String::new());
        for ((before, behind), times) in layers {
            opened.push_str(&before.repeat(times));
            closed.insert_str(0, &behind.repeat(times));
        }
        holds(&statement(&format!("{opened}true{closed}")));
        holds(&statement(&format!("{opened}principal{closed}")));
    }
}
