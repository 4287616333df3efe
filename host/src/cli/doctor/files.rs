//! Looks at the folders and files that the configuration names: who else can read or change them, and what is missing.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bulkhead::http::tls;

use super::Findings;
use crate::cli::remote::kept;
use crate::cli::settings::Loaded;
use crate::config::{Config, MASTER_KEY};

/// The master key's file in the keys folder.
const MASTER_FILE: &str = "master.key";
/// Where the store lies in the data folder.
const STORE: &str = "store";
/// The file with the setup token in the data folder.
pub(crate) const SETUP_TOKEN: &str = "setup-token";
/// How old the last backup may be: what is younger than a week is lost by whoever restores it, and a week is a lot.
const OLDEST_BACKUP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far ahead of the clock a file's time may be: clocks that are kept right differ by less.
pub(super) const SKEW: Duration = Duration::from_secs(60);
/// Most files of a folder that are looked at.
const MOST_FILES: usize = 10_000;

/// Looks at all that the configuration names.
pub(super) fn look(loaded: &Loaded, now: SystemTime, findings: &mut Findings) {
    let config = &loaded.config;
    if let Some(path) = &loaded.path {
        changeable(path, "config-writable", findings);
    }
    data(config, findings);
    keys(config, findings);
    certificate(config, findings);
    server(config, findings);
    backup(config, now, findings);
    clock(config, now, findings);
}

/// Looks at what `login` keeps.
pub(super) fn look_at_logins(findings: &mut Findings) {
    if let Some(path) = kept::path() {
        private(
            &path,
            0o600,
            "credentials-exposed",
            "whoever may have read it can use the keys in it: revoke them",
            findings,
        );
        if let Some(folder) = path.parent() {
            changeable(folder, "credentials-folder-writable", findings);
        }
    }
}

fn data(config: &Config, findings: &mut Findings) {
    if mode(&config.data).is_none() {
        findings.note(
            "data-missing",
            config.data.display(),
            "there is no data folder yet",
            "`bulkhead serve` makes it",
        );
        return;
    }
    private(&config.data, 0o700, "data-exposed", "", findings);
    private(&config.data.join(STORE), 0o700, "data-exposed", "", findings);
    let token = config.data.join(SETUP_TOKEN);
    if mode(&token).is_some() {
        private(&token, 0o600, "setup-token-exposed", "start the server again: it makes a new one", findings);
        findings.warning(
            "setup-token-alive",
            token.display(),
            "whoever reads this file on this machine becomes the administrator",
            "log in with it: `bulkhead login --setup`; or remove it",
        );
    }
}

fn keys(config: &Config, findings: &mut Findings) {
    if are_together(&config.data, &config.keys) {
        findings.error(
            "keys-in-data",
            config.keys.display(),
            format!(
                "it lies together with the data folder {}: every copy of the data takes its keys along",
                config.data.display()
            ),
            "move the keys folder elsewhere, and name it under [storage] `keys`",
        );
    }
    private(&config.keys, 0o700, "keys-exposed", "", findings);
    let master = config.keys.join(MASTER_FILE);
    let rotate =
        "whoever may have read it can read every secret of a copy of the data: `bulkhead vault rotate-master-key`";
    private(&master, 0o600, "master-key-exposed", rotate, findings);
    let sealed = mode(&config.data.join(STORE)).is_some();
    if config.master_key == MASTER_KEY && sealed && mode(&master).is_none() {
        findings.error(
            "master-key-missing",
            master.display(),
            "there is data, and no master key: no secret opens",
            "put back the copy of the keys folder, or name the right one under [storage] `keys`",
        );
    }
}

fn certificate(config: &Config, findings: &mut Findings) {
    let Some(files) = &config.tls else { return };
    private(
        &files.key,
        0o600,
        "tls-key-exposed",
        "whoever may have read it can pretend to be this server: get a new certificate",
        findings,
    );
    changeable(&files.certificate, "tls-certificate-writable", findings);
    // Who else can read the key was said.
    if let Err(error) = files.check()
        && !matches!(error, tls::Error::Exposed { .. })
    {
        findings.error(
            "tls-unusable",
            files.certificate.display(),
            error.to_string(),
            "name the certificate with its chain, and the private key that belongs to it, both in PEM",
        );
    }
}

fn server(config: &Config, findings: &mut Findings) {
    if config.is_public() && config.tls.is_none() {
        findings.warning(
            "public-plain-http",
            config.origin("server.address"),
            format!("the API is served on {} without TLS: keys and secrets pass in the clear", config.address),
            "set `tls-certificate` and `tls-key` under [server]; or listen on 127.0.0.1 behind a proxy on the same machine",
        );
    }
    if config.is_public() && config.names.is_empty() && config.address.ip().is_unspecified() {
        findings.warning(
            "no-names",
            config.origin("server.address"),
            "other machines can reach it, and it answers to no name that they could call it by",
            "say under [server] `names` what it is called",
        );
    }
    if let Some(block) = config.trusted_proxies.iter().find(|block| block.prefix_len() == 0) {
        findings.warning(
            "trusted-proxies-everywhere",
            config.origin("server.trusted-proxies"),
            format!("`{block}` is everybody: whoever asks says from where, and passes limits, log and policies as somebody else"),
            "name the proxies alone, such as 10.0.0.5/32",
        );
    }
    if config.allow_plain_http && !config.is_public() {
        findings.note(
            "plain-http-allowed",
            config.origin("server.allow-plain-http"),
            "plain http is allowed everywhere, and not needed on loopback",
            "remove `allow-plain-http`: it would also hold for another address",
        );
    }
}

fn backup(config: &Config, now: SystemTime, findings: &mut Findings) {
    let mend = "copy the data folder together with the keys folder while the server is stopped, each to its own place, and say under \
                [storage] `backup` where the copies of the data are";
    let Some(folder) = &config.backup else {
        if mode(&config.data).is_some() {
            findings.warning("no-backup", "storage.backup", "no backup is known: what this disk loses is lost", mend);
        }
        return;
    };
    if are_together(&config.data, folder) || are_together(&config.keys, folder) {
        findings.error(
            "backup-in-data",
            folder.display(),
            "it lies together with what it is a copy of: they are lost together",
            "put backups on another disk, and never the keys beside the data",
        );
    }
    match newest(folder) {
        Err(reason) => findings.error("backup-unreadable", folder.display(), reason, mend),
        Ok(None) => findings.warning("no-backup", folder.display(), "there is no backup in it", mend),
        Ok(Some(made)) => {
            let age = now.duration_since(made).unwrap_or_default();
            if age > OLDEST_BACKUP {
                let days = age.as_secs() / (24 * 3600);
                findings.warning("backup-old", folder.display(), format!("the last backup is {days} days old"), mend);
            }
        }
    }
}

/// A file that was changed later than now says that the clock was set back, or is wrong.
fn clock(config: &Config, now: SystemTime, findings: &mut Findings) {
    for folder in [config.data.clone(), config.data.join(STORE), config.keys.clone()] {
        let Ok(Some(changed)) = newest(&folder) else { continue };
        if let Ok(ahead) = changed.duration_since(now)
            && ahead > SKEW
        {
            let ahead = humantime::format_duration(Duration::from_secs(ahead.as_secs()));
            findings.error(
                "clock-skew",
                folder.display(),
                format!("a file in it was changed {ahead} from now: this machine's clock is wrong, or was"),
                "have the clock kept by NTP (`timedatectl set-ntp true`): keys, tokens and second factors expire by it",
            );
            return;
        }
    }
}

/// When the file that was changed last in `folder` was changed.
fn newest(folder: &Path) -> Result<Option<SystemTime>, String> {
    let unread = |error: std::io::Error| format!("it cannot be read: {error}");
    let mut newest = None;
    for entry in std::fs::read_dir(folder).map_err(unread)?.take(MOST_FILES) {
        let changed = entry.and_then(|entry| entry.metadata()).and_then(|metadata| metadata.modified());
        newest = newest.max(Some(changed.map_err(unread)?));
    }
    Ok(newest)
}

/// The permissions of what is at `path`, if it is there and can be looked at.
fn mode(path: &Path) -> Option<u32> {
    std::fs::symlink_metadata(path).ok().map(|metadata| metadata.mode() & 0o777)
}

/// Says so when others may read or change `path`.
fn private(path: &Path, wanted: u32, code: &'static str, more: &str, findings: &mut Findings) {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => {
            let what = format!("it is open to other users (mode {:04o})", metadata.mode() & 0o777);
            let mend = [format!("chmod {wanted:o} {}", path.display()), more.to_owned()];
            let mend: Vec<String> = mend.into_iter().filter(|line| !line.is_empty()).collect();
            findings.error(code, path.display(), what, mend.join("\n"));
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            findings.warning(
                "unreadable",
                path.display(),
                format!("it cannot be looked at: {error}"),
                "run this as the user that the server runs as",
            );
        }
        _ => {}
    }
}

/// Says so when others may change `path`.
fn changeable(path: &Path, code: &'static str, findings: &mut Findings) {
    if let Ok(metadata) = std::fs::metadata(path)
        && metadata.mode() & 0o022 != 0
    {
        let what = format!("other users may change it (mode {:04o})", metadata.mode() & 0o777);
        findings.error(code, path.display(), what, format!("chmod go-w {}", path.display()));
    }
}

/// Whether one of the two lies in the other, or is it.
fn are_together(one: &Path, other: &Path) -> bool {
    let (one, other) = (resolved(one), resolved(other));
    one.starts_with(&other) || other.starts_with(&one)
}

/// `path` without links, as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    match found {
        Some((ancestor, real)) => real.join(absolute.strip_prefix(ancestor).unwrap_or(Path::new(""))),
        None => absolute,
    }
}
