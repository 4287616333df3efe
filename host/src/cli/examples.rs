//! One example of each verb, which its help shows.
//!
//! *Why one table*: a verb without one is found by a test, and so is an example that the parser refuses.
//! Callers: `cli/mod.rs` → here.

use clap::Command;

/// The arguments that a verb is used with. Verbs whose help has several say them themselves.
const EXAMPLES: &[&str] = &[
    "serve --config /etc/bulkhead/bulkhead.toml",
    "invoke crm count-contacts --input @input.json",
    "secret set crm token --from @token.txt",
    "secret rotate crm token --from env:NEXT_TOKEN",
    "secret list crm",
    "secret remove crm token",
    "tenant list",
    "tenant create acme --environment production --use",
    "tenant use acme",
    "tenant show acme",
    "tenant update acme --environment staging",
    "tenant remove acme",
    "release install ./crm --tenant acme",
    "release list --tenant acme",
    "release show acme/crm@1.4.0",
    "release remove acme/crm@1.3.0",
    "connection list",
    "connection show crm",
    "connection request crm",
    "connection configure crm --config @config.json",
    "connection check crm",
    "connection discover crm",
    "connection pause crm --why 'the key leaked'",
    "connection resume crm",
    "connection upgrade crm --to acme/crm@1.5.0",
    "connection rollback crm",
    "connection remove crm",
    "revoke crm",
    "user list --tenant acme",
    "user create ada --role operator --display 'Ada Lovelace'",
    "user show ada",
    "user update ada --disabled true",
    "user reset-totp ada",
    "user remove ada",
    "service-account list",
    "service-account create ci --role developer --description 'deploys connectors'",
    "service-account show ci",
    "service-account update ci --role auditor",
    "service-account remove ci",
    "key list service-account/ci",
    "key create service-account/ci --name deploy --scope connection:invoke --out ci.key",
    "key rotate service-account/ci ID --overlap 24",
    "key revoke service-account/ci ID",
    "issuer list",
    "issuer add --from @issuer.json",
    "issuer remove github",
    "issuer identity list",
    "issuer identity add ci --issuer github --subject repo:acme/crm:ref:refs/heads/main --role developer",
    "issuer identity remove ci",
    "policy list",
    "policy show no-weekends",
    "policy put no-weekends --from @weekends.cedar",
    "policy remove no-weekends",
    "policy test --principal acme/user/ada --permission connection:invoke --resource crm",
    "policy roles",
    "publisher list",
    "publisher assign acme --to acme",
    "audit tail --entries 50 --follow",
    "audit verify --tenant platform",
    "whoami",
    "logout",
    "inspect target/wasm32-wasip2/release/crm.wasm",
    "check . --config @config.json --grant grant.toml",
    "discover . --config @config.json --grant grant.toml",
    "read . --stream contacts --state state.json --config @config.json --grant grant.toml",
    "doctor --offline",
    "config check --config /etc/bulkhead/bulkhead.toml",
    "config variables",
    "recover administrator --config /etc/bulkhead/bulkhead.toml",
    "recover policy list",
    "recover policy remove freeze --tenant platform",
    "openapi",
    "vault rotate-tenant-key --tenant acme",
    "vault rotate-master-key",
    "vault erase --tenant acme --yes",
    "vault verify",
];

/// The command line, with an example in the help of each verb.
pub(super) fn with_examples(command: Command) -> Command {
    told(command, "")
}

/// The same for the verb that is reached by `path`.
fn told(mut command: Command, path: &str) -> Command {
    let below: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    if below.is_empty() {
        let Some(example) = example(path) else { return command };
        let before = command.get_after_help().map(|help| format!("{help}\n\n")).unwrap_or_default();
        return command.after_help(format!("{before}Example:\n  bulkhead {example}"));
    }
    for name in below {
        let path = format!("{path}{name} ");
        command = command.mut_subcommand(name, |verb| told(verb, &path));
    }
    command
}

fn example(path: &str) -> Option<&'static str> {
    EXAMPLES.iter().copied().find(|example| format!("{example} ").starts_with(path))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Arguments;

    /// Each verb with its path, in the order of help.
    fn leaves<'a>(command: &'a Command, path: &str, found: &mut Vec<(String, &'a Command)>) {
        let mut below = command.get_subcommands().filter(|verb| verb.get_name() != "help").peekable();
        if below.peek().is_none() {
            found.push((path.trim().to_owned(), command));
        }
        for verb in below {
            leaves(verb, &format!("{path}{} ", verb.get_name()), found);
        }
    }

    /// Each verb, those that have others below them included.
    fn all<'a>(command: &'a Command, found: &mut Vec<&'a Command>) {
        for verb in command.get_subcommands() {
            found.push(verb);
            all(verb, found);
        }
    }

    fn words(line: &str) -> Vec<String> {
        let mut quoted = false;
        let text: String = line
            .chars()
            .map(|c| {
                if c == '\'' {
                    quoted = !quoted;
                    '\''
                } else if quoted && c == ' ' {
                    '\u{a0}'
                } else {
                    c
                }
            })
            .collect();
        text.split(' ')
            .filter(|word| !word.is_empty())
            .map(|word| word.replace('\'', "").replace('\u{a0}', " "))
            .collect()
    }

    #[test]
    fn each_verb_says_what_it_does_and_has_an_example_that_the_parser_takes() {
        let command = with_examples(Arguments::command());
        let (mut verbs, mut found) = (Vec::new(), Vec::new());
        all(&command, &mut verbs);
        for verb in verbs {
            assert!(
                verb.get_about().is_some_and(|about| !about.to_string().is_empty()),
                "{} is not described",
                verb.get_name()
            );
        }
        leaves(&command, "", &mut found);
        assert!(found.len() > 60, "{}", found.len());
        for (path, verb) in &found {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let begin = format!("  bulkhead {path}");
            let examples: Vec<&str> = help.lines().filter(|line| line.starts_with(&begin)).collect();
            assert!(!examples.is_empty(), "`bulkhead {path}` has no example: {help}");
            for example in examples {
                let parsed = Arguments::command().try_get_matches_from(words(example));
                assert!(
                    parsed.is_ok(),
                    "{example}: {}",
                    parsed.err().map(|error| error.to_string()).unwrap_or_default()
                );
            }
        }
        for example in EXAMPLES {
            assert!(found.iter().any(|(path, _)| format!("{example} ").starts_with(&format!("{path} "))), "{example}");
        }
    }

    /// What goes is removed; authority that was given, by a grant or a key, is revoked; and a tenant's key material is erased.
    #[test]
    fn there_is_one_word_for_removing() {
        let command = Arguments::command();
        let mut verbs = Vec::new();
        all(&command, &mut verbs);
        let others = ["delete", "rm", "unregister", "destroy", "drop", "discard", "unset", "uninstall"];
        for verb in verbs {
            assert!(!others.contains(&verb.get_name()), "{}", verb.get_name());
        }
    }
}
