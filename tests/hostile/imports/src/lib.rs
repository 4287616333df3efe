//! Opens a socket of its own, past the one door for egress. Its manifest does not mention `wasi:sockets`.

use bulkhead_sdk::{Action, Actions, Call, Connector, Result, Spec, Value, json};

use bindings::wasi::sockets::instance_network::instance_network;
use bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use bindings::wasi::sockets::tcp_create_socket::create_tcp_socket;

#[allow(unsafe_code, unreachable_pub, unused_qualifications)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: r"
            package test:imports;

            world sockets {
                import wasi:sockets/instance-network@0.2.12;
                import wasi:sockets/tcp-create-socket@0.2.12;
            }
        ",
        world: "test:imports/sockets",
        generate_all,
    });
}

struct Imports;

bulkhead_sdk::export!(Imports: actions);

impl Connector for Imports {
    type Config = Value;

    fn spec() -> Spec {
        Spec::new("hostile/imports")
    }

    fn check(_config: Value) -> Result<()> {
        Ok(())
    }
}

impl Actions for Imports {
    fn actions() -> Vec<Action<Self>> {
        vec![Action::new("dial", dial).description("Connects to 127.0.0.1, port 1.")]
    }
}

fn dial(_config: Value, _input: Value, _call: &Call) -> Result<Value> {
    Ok(match connect() {
        Ok(()) => json!({ "connected": true }),
        Err(code) => json!({ "connected": false, "error": format!("{code:?}") }),
    })
}

fn connect() -> Result<(), ErrorCode> {
    let network = instance_network();
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    let address = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: 1, address: (127, 0, 0, 1) });
    socket.start_connect(&network, address)?;
    socket.subscribe().block();
    socket.finish_connect()?;
    Ok(())
}
