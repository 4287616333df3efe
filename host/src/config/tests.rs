use std::ffi::OsString;

use super::*;

fn homes() -> Homes {
    Homes {
        data: Some("/home/ada/.local/share/bulkhead".into()),
        config: Some("/home/ada/.config/bulkhead".into()),
        cache: Some("/home/ada/.cache/bulkhead".into()),
    }
}

fn variables(said: &[(&str, &str)]) -> Variables {
    said.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect()
}

fn with(text: &str, said: &[(&str, &str)]) -> Result<Config, Error> {
    let file = File { path: Path::new("/etc/bulkhead/bulkhead.toml"), text };
    Config::new(Some(file), &variables(said), &homes())
}

/// What is wrong, in one line, and what is to be done.
fn refused(text: &str, said: &[(&str, &str)]) -> (String, String) {
    let error = with(text, said).unwrap_err();
    assert!(error.code().starts_with("config-"), "{error}");
    (error.to_string(), error.next_step().unwrap_or_default())
}

#[test]
fn the_defaults_listen_on_loopback_and_are_what_is_shown() {
    let config = Config::new(None, &Variables::new(), &homes()).unwrap();
    assert!(!config.is_public() && !config.allow_plain_http && config.tls.is_none());
    assert!(config.trusted_proxies.is_empty());
    assert_eq!((config.url().as_str(), config.master_key.as_str()), ("http://127.0.0.1:7411", "file"));
    assert!(!config.keys.starts_with(&config.data) && !config.data.starts_with(&config.keys));
    let shown: Vec<String> =
        config.lines().iter().map(|(setting, value, _)| format!("{} = {value}", setting.name())).collect();
    for line in [
        "server.address = \"127.0.0.1:7411\"",
        "server.connections = 2048",
        "audit.quota = \"1.0 GiB\"",
        "storage.keys = \"/home/ada/.config/bulkhead/keys\"",
        "runtime.guests = 1000",
        "audit.window = \"10s\"",
        "limits.principal-per-second = 1000",
    ] {
        assert!(shown.iter().any(|shown| shown == line), "{line}: {shown:#?}");
    }
    assert!(config.lines().iter().all(|(_, _, origin)| **origin == Origin::Default));
}

/// A certificate is for a name, and nobody can call all addresses.
#[test]
fn a_server_is_called_by_what_its_certificate_is_for_and_never_at_all_addresses() {
    let check = |server: &str, expected: &str| {
        assert_eq!(with(&format!("[server]\n{server}\n"), &[]).unwrap().url(), expected, "{server}");
    };
    let tls = "tls-certificate = \"c\"\ntls-key = \"k\"";
    let named = "names = [\"bulkhead.test\", \"b\"]";
    check(&format!("address = \"0.0.0.0:7443\"\n{named}\n{tls}"), "https://bulkhead.test:7443");
    check(&format!("address = \"127.0.0.1:7443\"\n{named}\n{tls}"), "https://bulkhead.test:7443");
    check(&format!("address = \"0.0.0.0:7443\"\n{tls}"), "https://127.0.0.1:7443");
    check(&format!("address = \"[::]:7443\"\n{tls}"), "https://[::1]:7443");
    check(&format!("address = \"192.0.2.1:7443\"\n{tls}"), "https://192.0.2.1:7443");
    // The name is the proxy's, which is no way in for the setup token.
    let behind = format!("address = \"0.0.0.0:7411\"\nallow-plain-http = true\n{named}");
    check(&behind, "http://127.0.0.1:7411");
}

/// What is shown as a default is what is in force without it, and reads back.
#[test]
fn what_is_shown_reads_back_as_the_same_configuration() {
    let config =
        with("[egress]\ndns = [\"192.0.2.1:53\"]\nreserve = [\"10.0.0.0/8\"]\n[runtime]\nmemory = \"2GiB\"\n", &[])
            .unwrap();
    let text: String =
        config.lines().iter().map(|(setting, value, _)| format!("{} = {value}\n", setting.name())).collect();
    let again = with(&text, &[]).unwrap();
    let values = |config: &Config| config.lines().into_iter().map(|(_, value, _)| value).collect::<Vec<_>>();
    assert_eq!(values(&config), values(&again));
    let public = |config: &Config| {
        format!("{:?}", (config.engine, config.audit, config.rates, config.connections, &config.reserve))
    };
    assert_eq!(public(&config), public(&again));
}

#[test]
fn the_environment_goes_before_the_file_and_each_value_says_where_it_is_from() {
    let text = "[server]\naddress = \"127.0.0.1:1\"\nnames = [\"a.example\"]\n\n[storage]\ndata = \"data\"\n";
    let said = [("BULKHEAD_SERVER_ADDRESS", "127.0.0.1:2"), ("BULKHEAD_EGRESS_RESERVE", "10.0.0.0/8, 192.168.0.0/16")];
    let config = with(text, &said).unwrap();
    assert_eq!(config.address.port(), 2);
    assert_eq!(config.origin("server.address").to_string(), "the environment variable BULKHEAD_SERVER_ADDRESS");
    assert_eq!(config.origin("server.names").to_string(), "/etc/bulkhead/bulkhead.toml: line 3, column 1");
    assert_eq!(config.origin("storage.data").to_string(), "/etc/bulkhead/bulkhead.toml: line 6, column 1");
    assert_eq!(config.origin("server.connections"), &Origin::Default);
    assert_eq!(config.reserve.len(), 2);
    assert_eq!(config.data, Path::new("/etc/bulkhead/data"), "a path begins where the configuration lies");
}

#[test]
fn what_is_no_setting_is_refused_with_its_line_and_the_nearest_one() {
    let check = |text: &str, place: &str, words: &str| {
        let (message, _) = refused(text, &[]);
        assert!(message.starts_with(&format!("/etc/bulkhead/bulkhead.toml: {place}: ")), "{message}");
        assert!(message.contains(words), "{message}");
    };
    check("[server]\n\nadress = \"127.0.0.1:1\"\n", "line 3, column 1", "did you mean `address`?");
    check("[servers]\n", "line 1, column 2", "did you mean `server`?");
    check("[server]\naddress = \"localhost\"\n", "line 2, column 11", "such as `127.0.0.1:7411`");
    check("[server]\naddress = \"127.0.0.1\"\n", "line 2, column 11", "write an address with its port");
    check("[egress]\ndns = [\"1.1.1.1\"]\n", "line 2, column 8", "write an address with its port");
    check("[server]\nallow-plain-http = \"yes\"\n", "line 2, column 20", "boolean");
    check("[audit]\nquota = 5\n", "line 2, column 9", "string");
    check("[audit]\nquota = \"0\"\n", "line 2, column 9", "is not a size");
    check("[runtime]\nguests = 0\n", "line 2, column 10", "a whole number from 1 to 4294967295");
    check("[egress]\nreserve = [\"10.0.0.0/33\"]\n", "line 2, column 12", "invalid");
    check("[server]\ntrusted-proxies = [\"10.0.0.1\"]\n", "line 2, column 20", "invalid");
    check("[server]\ntrusted-proxies = \"10.0.0.0/8\"\n", "line 2, column 19", "sequence");
    check("[server]\naddress = \"127.0.0.1:1\"\naddress = \"127.0.0.1:2\"\n", "line 3, column 1", "duplicate key");
    check("[storage]\nkey = \"x\"\n", "line 2, column 1", "did you mean `keys`?");
}

#[test]
fn a_variable_that_is_no_setting_or_no_value_is_refused_by_its_name() {
    let check = |variable: &str, value: &str, words: &str| {
        let (message, _) = refused("", &[(variable, value)]);
        assert!(message.contains(variable) && message.contains(words), "{message}");
    };
    check("BULKHEAD_SERVER_ADRESS", "127.0.0.1:1", "did you mean BULKHEAD_SERVER_ADDRESS?");
    check("BULKHEAD_STORAGE_MASTERKEY", "file", "did you mean BULKHEAD_STORAGE_MASTER_KEY?");
    check("BULKHEAD_QQ", "1", "is no setting");
    check("BULKHEAD_SERVER_ADDRESS", "everywhere", "says what `server.address` cannot be");
    check("BULKHEAD_SERVER_ALLOW_PLAIN_HTTP", "yes please", "write a number, or true or false");
    check("BULKHEAD_SERVER_ALLOW_PLAIN_HTTP", "1", "boolean");
    check("BULKHEAD_RUNTIME_GUESTS", "5\nmemory", "write a number");
    // Client verbs ask whether there are such, and not what they say.
    let known = |name: &str| known_variables(&variables(&[(name, "x")])).map_err(|error| error.to_string());
    assert!(known("BULKHEAD_TENNANT").is_err_and(|said| said.contains("did you mean BULKHEAD_TENANT?")));
    assert_eq!((known("BULKHEAD_TENANT"), known("BULKHEAD_SERVER_ADDRESS")), (Ok(()), Ok(())));
    // Variables of ours for other verbs are left to them.
    assert!(with("", &[("BULKHEAD_LOG", "debug"), ("BULKHEAD_CACHE", "/tmp/x")]).is_ok());
}

/// A value that could be a secret put into the wrong variable is not shown to whoever reads the log.
#[test]
fn a_key_in_the_configuration_is_refused_and_not_repeated() {
    let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let (message, next) = refused(&format!("[storage]\nmaster-key = \"{key}\"\n"), &[]);
    assert!(message.contains("line 2, column 1") && !message.contains(key) && !next.contains(key), "{message}");
    assert!(next.contains("env:VARIABLE"), "{next}");
    for good in ["file", "env:MASTER", "credential:master.key"] {
        assert!(with(&format!("[storage]\nmaster-key = \"{good}\"\n"), &[]).is_ok(), "{good}");
    }
    for bad in ["env:", "credential:", "credential:../x", "file:/etc/key"] {
        assert!(with(&format!("[storage]\nmaster-key = \"{bad}\"\n"), &[]).is_err(), "{bad}");
    }
}

#[test]
fn nothing_is_served_in_the_clear_to_other_machines_unless_that_is_written_down() {
    let tls = "tls-certificate = \"a.pem\"\ntls-key = \"b.pem\"\n";
    for address in ["0.0.0.0:7411", "[::]:7411", "192.0.2.7:7411"] {
        let text = format!("[server]\naddress = \"{address}\"\n");
        let (message, next) = refused(&text, &[]);
        assert!(message.starts_with("/etc/bulkhead/bulkhead.toml: line 2, column 1: "), "{message}");
        assert!(message.contains("there is no TLS") && next.contains("allow-plain-http"), "{message} {next}");
        assert!(with(&format!("{text}{tls}"), &[]).is_ok());
        assert!(with(&format!("{text}allow-plain-http = true\n"), &[]).is_ok());
    }
    assert!(with("[server]\naddress = \"[::1]:7411\"\n", &[]).is_ok());
    let (message, _) = refused("", &[("BULKHEAD_SERVER_ADDRESS", "0.0.0.0:1")]);
    assert!(message.starts_with("the environment variable BULKHEAD_SERVER_ADDRESS: "), "{message}");
}

#[test]
fn what_does_not_go_together_is_refused_where_it_stands() {
    let check = |text: &str, line: &str, words: &str| {
        let (message, next) = refused(text, &[]);
        assert!(message.contains(line) && message.contains(words) && !next.is_empty(), "{message}");
    };
    check("[server]\ntls-certificate = \"a.pem\"\n", "line 2, column 1", "without `server.tls-key`");
    check("[server]\ntls-key = \"a.pem\"\n", "line 2, column 1", "without `server.tls-certificate`");
    check("[storage]\ndata = \"~/data\"\n", "line 2, column 1", "stands for no folder");
    for name in ["", "https://a.example", "A.example", "a.example:7411", "-a.example", "a..example"] {
        check(&format!("[server]\nnames = [\"b.example\", \"{name}\"]\n"), "line 2, column 1", "is no name of a host");
    }
    check(
        "[server]\naddress = \"127.0.0.1:1\"\ntrusted-proxies = [\"::1/128\", \"10.0.0.1/8\"]\n",
        "line 3, column 1",
        "`10.0.0.1/8` is an address within `10.0.0.0/8`",
    );
    let nowhere = Config::new(None, &Variables::new(), &Homes::default()).unwrap_err();
    assert_eq!(nowhere, Error::Nowhere("storage.data"));
}
