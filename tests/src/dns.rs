//! A DNS server on loopback that answers as an attacker would, and remembers what it was asked.
//!
//! *Why*: whoever answers for a name chooses where a request goes. Answers can be mixed, can change from one question to the
//! next, can lead through an alias, or can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::UdpSocket;

/// A zone that nobody owns (RFC 6761).
pub const ZONE: &str = "bulkhead.test";

/// How long an answer that does not change may be kept, in seconds.
const KEPT: u32 = 60;

/// A running server. Dropping it stops it.
pub struct Dns {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    _server: Server<Answering>,
}

/// One answer to the question where a name leads.
#[derive(Debug, Clone)]
enum Answer {
    Addresses(Vec<IpAddr>),
    Alias(String),
    Failure,
}

/// A name's answers, the last of which stands.
#[derive(Debug, Default)]
struct Entry {
    answers: Vec<Answer>,
    /// How long they may be kept, in seconds.
    kept: u32,
    /// How often each type of record was asked for since the last rewinding.
    turns: BTreeMap<RecordType, usize>,
}

#[derive(Debug, Default)]
struct Book {
    entries: BTreeMap<String, Entry>,
    asked: BTreeSet<String>,
}

struct Answering(Arc<Mutex<Book>>);

impl Dns {
    /// A server with these names below the zone, or wherever a name with a final dot says. All addresses of a name are one
    /// answer.
    pub async fn start(records: &[(&str, &str)]) -> anyhow::Result<Self> {
        let dns = Self::listen().await?;
        for (name, addresses) in by_name(records) {
            dns.answer(name, &[&addresses])?;
        }
        Ok(dns)
    }

    /// The same, with answers that nobody may keep.
    pub async fn fleeting(records: &[(&str, &str)]) -> anyhow::Result<Self> {
        let dns = Self::listen().await?;
        dns.change(records)?;
        Ok(dns)
    }

    async fn listen() -> anyhow::Result<Self> {
        let book = Arc::<Mutex<Book>>::default();
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
        let address = socket.local_addr()?;
        let mut server = Server::new(Answering(Arc::clone(&book)));
        server.register_socket(socket);
        Ok(Self { address, book, _server: server })
    }

    /// Knows these names alone from now on, and nobody may keep what is said of them.
    pub fn change(&self, records: &[(&str, &str)]) -> anyhow::Result<()> {
        book(&self.book).entries.clear();
        for (name, addresses) in by_name(records) {
            self.write(name, vec![parsed(&addresses)?], 0);
        }
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has `name` lead to each of `answers` in turn, and then always to the last. What changes may not be kept.
    pub fn answer(&self, name: &str, answers: &[&[&str]]) -> anyhow::Result<()> {
        let answers = answers.iter().map(|addresses| parsed(addresses)).collect::<anyhow::Result<Vec<_>>>()?;
        let kept = if answers.len() > 1 { 0 } else { KEPT };
        self.write(name, answers, kept);
        Ok(())
    }

    /// Has `name` lead wherever `other` leads.
    pub fn alias(&self, name: &str, other: &str) {
        self.write(name, vec![Answer::Alias(absolute(other))], KEPT);
    }

    /// Has every question about `name` fail.
    pub fn fail(&self, name: &str) {
        self.write(name, vec![Answer::Failure], KEPT);
    }

    /// Begins anew with the first answer of each name.
    pub fn rewind(&self) {
        for entry in book(&self.book).entries.values_mut() {
            entry.turns.clear();
        }
    }

    /// Every name that was asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        book(&self.book).asked.iter().cloned().collect()
    }

    /// Every name that was asked for although nobody wrote an answer for it.
    #[must_use]
    pub fn strangers(&self) -> Vec<String> {
        let book = book(&self.book);
        book.asked.iter().filter(|name| !book.entries.contains_key(*name)).cloned().collect()
    }

    fn write(&self, name: &str, answers: Vec<Answer>, kept: u32) {
        book(&self.book).entries.insert(absolute(name), Entry { answers, kept, turns: BTreeMap::new() });
    }
}

impl Book {
    /// What is said of `name` this time, and for how long it holds.
    fn turn(&mut self, name: &str, kind: RecordType) -> Option<(Answer, u32)> {
        self.asked.insert(name.to_owned());
        let entry = self.entries.get_mut(name)?;
        let turn = entry.turns.entry(kind).or_default();
        let answer = entry.answers.get(*turn).or(entry.answers.last())?.clone();
        *turn += 1;
        Some((answer, entry.kept))
    }

    /// The records that answer a question, or none where there is no such name.
    fn records(&mut self, name: &Name, kind: RecordType) -> Result<Vec<Record>, ResponseCode> {
        let plain = name.to_string().to_ascii_lowercase();
        let (answer, kept) = self.turn(&plain, kind).ok_or(ResponseCode::NXDomain)?;
        match answer {
            Answer::Failure => Err(ResponseCode::ServFail),
            Answer::Alias(other) => {
                let other = Name::from_ascii(&other).map_err(|_| ResponseCode::ServFail)?;
                let mut records = vec![Record::from_rdata(name.clone(), kept, RData::CNAME(CNAME(other.clone())))];
                records.extend(self.records(&other, kind)?);
                Ok(records)
            }
            Answer::Addresses(addresses) => {
                let data = addresses.into_iter().filter_map(|address| match (address, kind) {
                    (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(address))),
                    (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(address))),
                    _ => None,
                });
                Ok(data.map(|data| Record::from_rdata(name.clone(), kept, data)).collect())
            }
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Answering {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let found = match request.request_info() {
            Ok(info) => {
                let question = info.query.original();
                book(&self.0).records(question.name(), question.query_type())
            }
            Err(_) => Err(ResponseCode::FormErr),
        };
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        let records = found.unwrap_or_else(|code| {
            metadata.response_code = code;
            Vec::new()
        });
        let mut response = MessageResponseBuilder::from_message_request(request);
        // Without it an answer of many addresses would be cut short.
        if let Some(edns) = &request.edns {
            response.edns(edns);
        }
        let response = response.build(metadata, &records, [], [], []);
        handle.send_response(response).await.unwrap_or_else(|_| metadata_only(request))
    }
}

fn metadata_only(request: &Request) -> ResponseInfo {
    let header = hickory_server::proto::op::Header {
        metadata: Metadata::response_from_request(&request.metadata),
        counts: hickory_server::proto::op::HeaderCounts::default(),
    };
    header.into()
}

fn parsed(addresses: &[&str]) -> anyhow::Result<Answer> {
    let addresses: Result<_, _> = addresses.iter().map(|address| address.parse()).collect();
    Ok(Answer::Addresses(addresses?))
}

fn by_name<'a>(records: &[(&'a str, &'a str)]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut names = BTreeMap::<_, Vec<_>>::new();
    for (name, address) in records {
        names.entry(*name).or_default().push(*address);
    }
    names
}

/// A name as questions have it: in small letters, with its final dot.
fn absolute(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    if name.ends_with('.') { name } else { format!("{name}.{ZONE}.") }
}

fn book(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
