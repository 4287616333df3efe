//! Asks GitHub's REST API, version 2022-11-28.

use std::hash::{DefaultHasher, Hash, Hasher};

use bulkhead_sdk::http::{self, Request, Response, Url};
use bulkhead_sdk::serde_json::Map;
use bulkhead_sdk::{Result, Value};

use crate::Config;
use crate::progress::Ask;
use crate::reader::Lists;

/// The most bytes of one answer. A hundred pull requests have a few MiB; descriptions may have 64 KiB each.
const ANSWER: usize = 16 * 1024 * 1024;

pub(crate) type Record = Map<String, Value>;

pub(crate) struct Api {
    config: Config,
}

/// One page of a listing.
pub(crate) struct Listing {
    pub(crate) records: Vec<Record>,
    /// The encoded query of the page after this one.
    pub(crate) next: Option<String>,
    /// Tells this page from others.
    pub(crate) print: u64,
}

impl Api {
    pub(crate) fn new(config: Config) -> Self {
        Self { config }
    }

    /// Fails unless the repository can be read.
    pub(crate) fn repository(&self) -> Result<()> {
        self.send(self.request(None))?;
        Ok(())
    }

    fn request(&self, list: Option<&str>) -> Request {
        let Config { owner, repo, base_url, .. } = &self.config;
        http::get(base_url).path(["repos", owner.as_str(), repo.as_str()]).path(list)
    }

    fn sorted(&self, request: Request, direction: &str) -> Request {
        request
            .query("state", "all")
            .query("sort", "updated")
            .query("direction", direction)
            .query("per_page", self.config.per_page)
    }

    fn send(&self, request: Request) -> Result<Response> {
        let request = request
            .accept_json()
            .header("x-github-api-version", "2022-11-28")
            .header("user-agent", concat!("bulkhead-github/", env!("CARGO_PKG_VERSION")))
            .max_body(ANSWER);
        Ok(request.send()?.error_for_status()?)
    }
}

impl Lists for Api {
    fn list(&self, list: &str, ask: &Ask) -> Result<Listing> {
        let request = self.request(Some(list));
        let request = match ask {
            Ask::Page(query) => request.raw_query(query),
            Ask::Oldest { since: None } => self.sorted(request, "asc"),
            Ask::Oldest { since: Some(since) } => self.sorted(request, "asc").query("since", since),
            Ask::Newest => self.sorted(request, "desc"),
        };
        let answer = self.send(request)?;
        let mut hasher = DefaultHasher::new();
        answer.bytes().hash(&mut hasher);
        Ok(Listing { records: answer.json()?, next: next(&answer), print: hasher.finish() })
    }
}

/// The query of the link to the next page. Its host and path are not followed: GitHub links to `/repositories/ID/…`, which
/// is the same list by another name, and a listing has no business pointing anywhere else.
fn next(answer: &Response) -> Option<String> {
    let next = Url::parse(answer.links().get("next")?).ok()?;
    next.query().map(str::to_owned)
}
