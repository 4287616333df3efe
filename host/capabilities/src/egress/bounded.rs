//! Bounds the parts of a request that `wasi:http` itself keeps without a bound.
//!
//! Why: an `outgoing-request` keeps method, authority and path in the host's memory, which no limit on the guest's memory
//! counts; a guest that never sends can pile up gigabytes. Invariants: what is over its bound is refused as the interface
//! refuses what is malformed, before it is kept.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest as _, Method, OutgoingRequest};

/// Longest method, in bytes. The longest of the IANA registry has 17.
const LONGEST_METHOD: usize = 32;
/// Longest authority, in bytes: a DNS name of 253 and a port.
const LONGEST_AUTHORITY: usize = 300;
/// Longest path with its query, in bytes: twice what common servers accept.
const LONGEST_PATH: usize = 16 * 1024;

/// Puts a bound before three functions of the types that were linked already.
pub(super) fn link<T: WasiHttpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(super::TYPES)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store, (request, method): (Resource<OutgoingRequest>, Method)| {
            let fits = !matches!(&method, Method::Other(name) if name.len() > LONGEST_METHOD);
            if fits { store.data_mut().http().set_method(request, method).map(|set| (set,)) } else { Ok((Err(()),)) }
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store, (request, authority): (Resource<OutgoingRequest>, Option<String>)| {
            let fits = authority.as_ref().is_none_or(|authority| authority.len() <= LONGEST_AUTHORITY);
            if fits {
                store.data_mut().http().set_authority(request, authority).map(|set| (set,))
            } else {
                Ok((Err(()),))
            }
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store, (request, path): (Resource<OutgoingRequest>, Option<String>)| {
            let fits = path.as_ref().is_none_or(|path| path.len() <= LONGEST_PATH);
            if fits {
                store.data_mut().http().set_path_with_query(request, path).map(|set| (set,))
            } else {
                Ok((Err(()),))
            }
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
