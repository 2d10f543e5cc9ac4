//! The name of a socket in sentences: its kind, its address and its peer.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{SockaddrStorage, getpeername, getsockname, getsockopt};

use crate::sys::pid::Pid;
use crate::sys::proc::process;
use crate::sys::socket::number;

/// "TCP socket 10.0.0.5:443 -> 10.0.0.9:51234". What the socket does not tell is left out.
pub fn of(socket: &OwnedFd) -> String {
    let option = |option| number(socket, option).unwrap_or(-1);
    let family = option(libc::SO_DOMAIN);
    let mut words = vec![kind(family, option(libc::SO_TYPE), option(libc::SO_PROTOCOL))];
    let fd = socket.as_raw_fd();
    let address = getsockname::<SockaddrStorage>(fd).ok().and_then(|address| shown(&address));
    let peer = getpeername::<SockaddrStorage>(fd).ok();
    let is_connected = peer.is_some();
    words.extend(address);
    if let Some(peer) = peer.and_then(|peer| shown(&peer).or_else(|| peer_process(socket))) {
        words.push(format!("-> {peer}"));
    }
    if option(libc::SO_ACCEPTCONN) == 1 {
        words.push("(listening)".into());
    } else if !is_connected && option(libc::SO_TYPE) == libc::SOCK_STREAM {
        words.push("(not connected)".into());
    }
    words.join(" ")
}

fn kind(family: i32, sort: i32, protocol: i32) -> String {
    let name = match (family, sort, protocol) {
        (libc::AF_UNIX, libc::SOCK_STREAM, _) => "UNIX stream socket",
        (libc::AF_UNIX, libc::SOCK_DGRAM, _) => "UNIX datagram socket",
        (libc::AF_UNIX, ..) => "UNIX seqpacket socket",
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_TCP) => "TCP socket",
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_UDP) => "UDP socket",
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_SCTP) => "SCTP socket",
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_MPTCP) => "MPTCP socket",
        (libc::AF_INET | libc::AF_INET6, ..) => return format!("internet socket of protocol {protocol}"),
        (libc::AF_NETLINK, ..) => return format!("netlink socket of protocol {protocol}"),
        (libc::AF_PACKET, ..) => "packet socket",
        (libc::AF_VSOCK, ..) => "vsock socket",
        (libc::AF_ALG, ..) => "socket of the kernel's crypto (AF_ALG)",
        _ => return format!("socket of family {family}"),
    };
    name.to_owned()
}

/// An address as a person writes it. `None` for a UNIX socket without a name, and for families
/// whose addresses say little.
fn shown(address: &SockaddrStorage) -> Option<String> {
    if let Some(address) = address.as_sockaddr_in() {
        return Some(address.to_string());
    }
    if let Some(address) = address.as_sockaddr_in6() {
        return Some(address.to_string());
    }
    let address = address.as_unix_addr()?;
    let name = match (address.path(), address.as_abstract()) {
        (Some(path), _) => path.display().to_string(),
        (_, Some(name)) => format!("@{}", String::from_utf8_lossy(name)),
        (None, None) => return None,
    };
    Some(name.chars().map(|c| if c.is_control() { '?' } else { c }).collect())
}

/// The process that connected a UNIX socket, or made the pair.
fn peer_process(socket: &OwnedFd) -> Option<String> {
    let pid: Pid = getsockopt(socket, PeerCredentials).ok()?.pid();
    (pid > 0).then(|| format!("pid {pid} ({})", process::command(pid)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn kind_address_and_peer() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        let client = TcpStream::connect(at).unwrap();
        let from = client.local_addr().unwrap();
        let (server, client) = (OwnedFd::from(server), OwnedFd::from(client));
        assert_eq!(of(&server), format!("TCP socket {at} (listening)"));
        assert_eq!(of(&client), format!("TCP socket {from} -> {at}"));
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let at = udp.local_addr().unwrap();
        assert_eq!(of(&udp.into()), format!("UDP socket {at}"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let server = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (accepted, _) = server.accept().unwrap();
        let us = format!("pid {} ({})", std::process::id(), process::command(std::process::id() as Pid));
        let (server, client, accepted) = (OwnedFd::from(server), OwnedFd::from(client), OwnedFd::from(accepted));
        assert_eq!(of(&server), format!("UNIX stream socket {} (listening)", path.display()));
        assert_eq!(of(&client), format!("UNIX stream socket -> {}", path.display()));
        assert_eq!(of(&accepted), format!("UNIX stream socket {} -> {us}", path.display()));
        assert_eq!(of(&UnixDatagram::unbound().unwrap().into()), "UNIX datagram socket");
    }
}
