//! A new sysroot must link this program before it is used: it reaches for each group of functions in `libc_stubs.rs`.

use std::{fs, net, thread};

fn main() {
    let thread = thread::Builder::new().spawn(|| net::TcpStream::connect("name:1"));
    println!(
        "{thread:?} {:?} {:?}",
        net::UdpSocket::bind("name:1"),
        fs::canonicalize(".")
    );
}
