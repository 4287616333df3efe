//! What goes with a principal that is removed, with a person who is put out, and with a tenant.
//!
//! *Invariant*: whoever goes takes keys, sessions, tokens and the answers to their requests along, in the same batch.

use bulkhead_core::Principal;
use bulkhead_core::id::TenantId;
use bulkhead_core::principal::Kind;
use bulkhead_storage::record::{self, Record};
use bulkhead_storage::{Batch, LARGEST_PAGE, Space};
use serde::Serialize;

use super::account::ServiceAccount;
use super::bearer::{self, Issuer};
use super::holder::{self, Pointer};
use super::key::{KeyRow, Used};
use super::registered::{Registered, Subject};
use super::session::Session;
use super::throttle::{self, Throttle};
use super::token::TokenRow;
use super::user::{Factor, Password, User};
use super::{Error, Identity, ticket};

/// Where HTTP keeps which requests of a principal's were done, by its tenant, kind and name: what was asked for and told goes with
/// whoever asked, and is not for those who have their name later.
pub const IDEMPOTENCY: Space = Space::new("idempotency");

/// Which credentials go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goes {
    /// All of them, how a person logs in, and what was answered to them.
    All,
    /// All of them.
    Credentials,
    /// Those that stand for a log-in: sessions, and tokens.
    LogIns,
}

/// How many credentials went, those among them that were over counted as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// API keys.
    pub keys: usize,
    /// Sessions.
    pub sessions: usize,
    /// Tokens that stood for either.
    pub tokens: usize,
}

/// Credentials that stand for a log-in.
const LOG_INS: [Space; 2] = [Session::SPACE, TokenRow::SPACE];
/// Those, and keys.
const CREDENTIALS: [Space; 4] = [Session::SPACE, TokenRow::SPACE, KeyRow::SPACE, Used::SPACE];
/// All else that is a tenant's.
const OTHERS: [Space; 8] = [
    User::SPACE,
    Password::SPACE,
    Factor::SPACE,
    ServiceAccount::SPACE,
    Registered::SPACE,
    Subject::SPACE,
    Issuer::SPACE,
    throttle::SPACE,
];

impl Identity {
    /// `batch`, and the end of all credentials of a principal's that `goes` names: how many those are.
    pub(super) async fn without_credentials(
        &self,
        mut batch: Batch,
        principal: &Principal,
        goes: Goes,
    ) -> Result<(Batch, Ended), Error> {
        let spaces: &[Space] = if goes == Goes::LogIns { &LOG_INS } else { &CREDENTIALS };
        let mut ended = Ended::default();
        for space in spaces {
            let gone;
            (batch, gone) = self.without(batch, *space, &holder::credentials(principal)).await?;
            match *space {
                KeyRow::SPACE => ended.keys = gone,
                Session::SPACE => ended.sessions = gone,
                TokenRow::SPACE => ended.tokens = gone,
                _ => {}
            }
        }
        if goes == Goes::All {
            let asked =
                record::key(&[principal.tenant.as_str(), &format!("{}/{}", principal.kind.name(), principal.name)]);
            (batch, _) = self.without(batch, IDEMPOTENCY, &asked).await?;
        }
        if goes == Goes::All && principal.kind == Kind::User {
            batch.delete(Password::SPACE, &holder::key(principal));
            batch.delete(Factor::SPACE, &holder::key(principal));
            batch = Throttle::forgive(batch, principal);
        }
        Ok((batch, ended))
    }

    /// `batch`, and the end of all that is kept here of a tenant. What the vault keeps goes with the tenant's key. Once it is done,
    /// [`Self::forget_tenant`].
    pub async fn without_tenant(&self, mut batch: Batch, tenant: &TenantId) -> Result<Batch, Error> {
        for space in CREDENTIALS.into_iter().chain(OTHERS) {
            (batch, _) = self.without(batch, space, &record::key(&[tenant.as_str()])).await?;
        }
        Ok(batch)
    }

    /// Forgets what is at hand of a tenant that was removed.
    pub fn forget_tenant(&self, tenant: &TenantId) {
        self.known.forget_tenant(tenant);
        self.bearers.forget();
    }

    /// `batch`, and the end of the rows of `space` that begin so, with what points to them: how many those are.
    async fn without(&self, mut batch: Batch, space: Space, prefix: &[u8]) -> Result<(Batch, usize), Error> {
        let pointers = match space {
            KeyRow::SPACE => Some(ticket::Kind::Key),
            Session::SPACE => Some(ticket::Kind::Session),
            TokenRow::SPACE => Some(ticket::Kind::Token),
            _ => None,
        };
        let (mut after, mut gone) = (None::<Vec<u8>>, 0);
        loop {
            let page = self.store().scan(space, prefix, after.as_deref(), LARGEST_PAGE).await?;
            gone += page.entries.len();
            for (key, row) in &page.entries {
                batch.delete(space, key);
                if let Some(kind) = pointers {
                    batch.delete(Pointer::SPACE, &holder::pointer(kind.prefix(), &last_part(key)));
                }
                if space == Issuer::SPACE {
                    bearer::forget(&mut batch, row);
                }
            }
            if !page.more {
                return Ok((batch, gone));
            }
            after = page.entries.into_iter().last().map(|(key, _)| key);
        }
    }
}

/// The last part of a key: the id of a credential.
fn last_part(key: &[u8]) -> String {
    let last = key.strip_suffix(&[0]).and_then(|key| key.rsplit(|byte| *byte == 0).next());
    String::from_utf8_lossy(last.unwrap_or_default()).into_owned()
}
