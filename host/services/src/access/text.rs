//! Reads the text of policies: parsed, held against the schema, and refused with a line and a column.
//!
//! *Why bounds before Cedar sees it*: its parser calls itself for each bracket and its trees are as deep as a chain of operators is
//! long, so that a few kilobytes could exhaust the stack, and with it end the host. What is read is read on a large stack of its own all
//! the same, for what the bounds might overlook.
//! *Invariants*: 1. what Cedar would only warn of is refused: a policy that can never apply protects nobody; 2. a tenant's policy
//! that permits is refused, for a tenant is not the one to widen what its roles hold.

use bulkhead_core::id::TenantId;
use cedar_policy::ffi::DetailedError;
use cedar_policy::{Effect, Policy, PolicySet, ValidationMode};

use super::named;
use super::schema::Vocabulary;

/// Largest text of one policy, in bytes: some two hundred lines, and three of them fit in a row of the store.
pub const LARGEST_TEXT: usize = 16 * 1024;
/// Most statements in one text: each is looked at in every decision.
pub(super) const MOST_STATEMENTS: usize = 20;
/// Deepest nesting of brackets and conditions in a statement. People write four or five.
const DEEPEST: usize = 16;
/// Most operators and attributes in a statement, which is how deep its tree can be.
const MOST_OPERATORS: usize = 400;
/// The stack on which a text is read, in bytes. What is within the bounds takes less than the two mebibytes of an ordinary thread; this is
/// mapped where it is touched, and holds the deepest tree of brackets that fits into [`LARGEST_TEXT`]. A test pins both.
const STACK: usize = 512 * 1024 * 1024;
/// Longest message of a problem that is shown, in characters.
const LONGEST_MESSAGE: usize = 400;

/// Where a text is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// From 1; 0 where it concerns all of it.
    pub line: usize,
    /// In characters, from 1; 0 where it concerns all of it.
    pub column: usize,
    /// What is wrong, and what would be right where that is known.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}, column {}: {}", self.column, self.message),
        }
    }
}

/// The statements of `text`, in their order.
pub(super) fn read(text: &str, may_permit: bool, words: &Vocabulary) -> Result<Vec<Policy>, Problem> {
    if text.len() > LARGEST_TEXT {
        return Err(whole(format!("it is larger than {} KiB", LARGEST_TEXT / 1024)));
    }
    bounded(text)?;
    on_a_large_stack(|| understood(text, may_permit, words))
}

/// Does `work` where it may call itself as often as a text has characters.
pub(super) fn on_a_large_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::grow(STACK, work)
}

/// The statements of a text that is [`bounded`].
pub(super) fn understood(text: &str, may_permit: bool, words: &Vocabulary) -> Result<Vec<Policy>, Problem> {
    let set: PolicySet = text.parse().map_err(|error| problem(text, &DetailedError::from(&error)))?;
    if set.templates().next().is_some() {
        return Err(whole("it has a slot (`?principal` or `?resource`): name whom or what you mean".to_owned()));
    }
    let mut policies: Vec<Policy> = set.policies().cloned().collect();
    if policies.is_empty() {
        return Err(whole("it holds no policy".to_owned()));
    }
    if policies.len() > MOST_STATEMENTS {
        return Err(whole(format!("it holds more than {MOST_STATEMENTS} statements")));
    }
    if !may_permit && policies.iter().any(|policy| policy.effect() == Effect::Permit) {
        return Err(whole(
            "it permits: a tenant's own policies can only forbid, since what its roles hold is the operator's to say"
                .to_owned(),
        ));
    }
    let checked = words.validator.validate(&set, ValidationMode::Strict);
    let errors = checked.validation_errors().map(DetailedError::from);
    let warnings = checked.validation_warnings().map(DetailedError::from);
    if let Some(first) = errors.chain(warnings).next() {
        return Err(problem(text, &first));
    }
    // Cedar numbers them `policy0`, `policy1`, …
    policies.sort_by_key(|policy| policy.id().to_string().trim_start_matches("policy").parse::<usize>().unwrap_or(0));
    Ok(policies)
}

/// Refuses policies of `of` that name what can never be.
pub(super) fn meant(text: &str, policies: &[Policy], of: &TenantId) -> Result<(), Problem> {
    let Some((uid, shape)) = policies.iter().find_map(|policy| named::unmeant(policy, of)) else { return Ok(()) };
    let message = format!("nothing that this policy decides about is called `{uid}`: write {shape}");
    Err(text.find(&uid.to_string()).map_or_else(|| whole(message.clone()), |at| located(text, at, message.clone())))
}

/// Refuses what is nested too deep, reading no more of the language than strings, comments, brackets and words.
///
/// Where Cedar's lexer and this one could differ, this one counts more: a bracket is closed by its like alone, nothing begins anew within
/// one, and `if` counts wherever Cedar could begin a word.
pub(super) fn bounded(text: &str) -> Result<(), Problem> {
    let (mut open, mut conditions, mut operators) = (Vec::new(), 0_usize, 0_usize);
    let mut rest = text.char_indices().peekable();
    let mut word_begins = true;
    while let Some((at, character)) = rest.next() {
        match character {
            '"' => {
                while let Some((_, inner)) = rest.next() {
                    match inner {
                        '\\' => drop(rest.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '/' if rest.peek().is_some_and(|(_, next)| *next == '/') => {
                while rest.next_if(|(_, next)| !matches!(next, '\n' | '\r')).is_some() {}
            }
            '(' | '[' | '{' => {
                open.push(character);
                operators += 1;
            }
            ')' => drop(open.pop_if(|last| *last == '(')),
            ']' => drop(open.pop_if(|last| *last == '[')),
            '}' => drop(open.pop_if(|last| *last == '{')),
            '.' | '&' | '|' | '+' | '-' | '*' | '/' | '%' | '!' => operators += 1,
            ';' if open.is_empty() => (conditions, operators) = (0, 0),
            'i' if word_begins && text.get(at..).is_some_and(is_if) => conditions += 1,
            _ => {}
        }
        if open.len() + conditions > DEEPEST {
            return Err(located(text, at, format!("it is nested deeper than {DEEPEST} levels")));
        }
        if operators > MOST_OPERATORS {
            return Err(located(
                text,
                at,
                format!("the statement has more than {MOST_OPERATORS} operators: cut it in two"),
            ));
        }
        word_begins = !(character.is_ascii_alphabetic() || character == '_');
    }
    Ok(())
}

/// Whether the word that `rest` begins with is `if`.
fn is_if(rest: &str) -> bool {
    let behind = rest.strip_prefix("if").map(|behind| behind.chars().next());
    behind.is_some_and(|next| next.is_none_or(|next| !(next.is_ascii_alphanumeric() || next == '_')))
}

fn problem(text: &str, error: &DetailedError) -> Problem {
    // Cedar calls the statements of a text by numbers of its own.
    let first = error.related.first().filter(|_| error.source_locations.is_empty());
    let error = first.unwrap_or(error);
    let mut message = error.message.clone();
    if let Some((_, said)) = message.split_once(", ").filter(|(start, _)| start.starts_with("for policy `")) {
        message = said.to_owned();
    }
    let more =
        error.source_locations.first().and_then(|at| at.label.as_deref()).into_iter().chain(error.help.as_deref());
    for more in more {
        message.push_str("; ");
        message.push_str(more);
    }
    match error.source_locations.first() {
        Some(at) => located(text, at.loc.start, message),
        None => whole(message),
    }
}

fn located(text: &str, at: usize, message: String) -> Problem {
    let before = text.get(..text.floor_char_boundary(at)).unwrap_or_default();
    let (line, column) =
        (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1);
    Problem { line, column, ..whole(message) }
}

fn whole(message: String) -> Problem {
    let message = bulkhead_core::text::plain(&message).replace('\n', " ").chars().take(LONGEST_MESSAGE).collect();
    Problem { line: 0, column: 0, message }
}
