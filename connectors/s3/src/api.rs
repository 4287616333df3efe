//! Asks S3: ListObjectsV2 and GetObject, API version 2006-03-01.

use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_sdk::http::{self, Request, Response};
use bulkhead_sdk::{Error, Result};

use crate::Config;
use crate::reader::{Answer, Content, Store};
use crate::xml::{self, Listing};

/// The most bytes of a listing: a thousand keys of 1024 characters, each encoded in nine bytes, and what stands around them.
const LISTING: usize = 16 * 1024 * 1024;

pub(crate) struct Api {
    config: Config,
}

impl Api {
    pub(crate) fn new(config: Config) -> Self {
        Self { config }
    }

    /// Fails unless the bucket can be listed.
    pub(crate) fn bucket(&self) -> Result<()> {
        self.page(1, None, None).map(drop)
    }

    fn request(&self) -> Request {
        http::get(self.config.base_url()).path([self.config.bucket.as_str()])
    }

    fn page(&self, most: u16, after: Option<&str>, token: Option<&str>) -> Result<(Listing, u64)> {
        let mut request = self.request().query("list-type", 2).query("encoding-type", "url").query("max-keys", most);
        if !self.config.prefix.is_empty() {
            request = request.query("prefix", &self.config.prefix);
        }
        match (token, after) {
            (Some(token), _) => request = request.query("continuation-token", token),
            (None, Some(after)) => request = request.query("start-after", after),
            (None, None) => {}
        }
        let answer = accepted(request.max_body(LISTING).send()?)?;
        let now = answer.header("date").and_then(xml::date).unwrap_or_else(clock);
        Ok((xml::listing(answer.text()?)?, now))
    }
}

impl Store for Api {
    fn list(&self, after: Option<&str>, token: Option<&str>) -> Result<(Listing, u64)> {
        self.page(self.config.per_page, after, token)
    }

    fn get(&self, key: &str) -> Result<Answer> {
        // The extra byte tells an object that has grown from one that just fits.
        let most = usize::try_from(self.config.largest_object).unwrap_or(usize::MAX).saturating_add(1);
        let answer = match self.request().path(key.split('/')).max_body(most).send() {
            Ok(answer) => answer,
            Err(http::Error::Url(_) | http::Error::Denied(_)) => return Ok(Answer::Unaskable),
            Err(http::Error::TooLarge { .. }) => return Ok(Answer::TooLarge),
            Err(error) => return Err(error.into()),
        };
        if answer.status() == 404 {
            return Ok(Answer::Gone);
        }
        let answer = accepted(answer)?;
        Ok(Answer::Content(Content {
            content_type: answer.header("content-type").map(str::to_owned),
            etag: answer.header("etag").map(|etag| etag.trim_matches('"').to_owned()),
            bytes: answer.bytes().to_vec(),
        }))
    }
}

/// The answer, or an error in S3's words where those say more than the status.
fn accepted(answer: Response) -> Result<Response> {
    if (200..300).contains(&answer.status()) {
        return Ok(answer);
    }
    match answer.text().ok().and_then(|body| xml::refusal(answer.status(), body)) {
        Some(error) => Err(error),
        None => match answer.error_for_status() {
            Ok(answer) => Err(Error::permanent(format!("S3 answered {}", answer.status()))),
            Err(error) => Err(error.into()),
        },
    }
}

/// For an answer without a `Date`.
fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
