//! Many datagrams with one system call.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{c_int, c_uint, iovec, mmsghdr, sockaddr_in6, socklen_t};

/// A number of datagrams with the addresses where they came from.
pub struct Datagrams {
    /// Room for as many datagrams as there are `lens`, of `room` bytes each.
    bytes: Vec<u8>,
    room: usize,
    lens: Vec<usize>,
    /// Where each came from; large enough for IPv4, too.
    names: Vec<sockaddr_in6>,
    name_lens: Vec<socklen_t>,
    pieces: Vec<iovec>,
    heads: Vec<mmsghdr>,
}

/// Whether a call waits for the first datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The call gives `WouldBlock` when there is none.
    Never,
    /// The call waits for one, and takes what else is there.
    ForOne,
}

impl Datagrams {
    /// Makes room for `count` datagrams of at most `room` bytes.
    pub fn new(count: usize, room: usize) -> Self {
        // SAFETY: All of these are structures of numbers and pointers, for which zero is a value.
        let (name, piece, head) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            bytes: vec![0; count * room],
            room,
            lens: vec![0; count],
            names: vec![name; count],
            name_lens: vec![0; count],
            pieces: vec![piece; count],
            heads: vec![head; count],
        }
    }

    /// How many datagrams there is room for.
    pub fn capacity(&self) -> usize {
        self.lens.len()
    }

    /// The bytes of datagram `index`.
    pub fn get(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.room..][..self.lens[index]]
    }

    /// The room of datagram `index`, which is made `len` bytes long.
    pub fn get_mut(&mut self, index: usize, len: usize) -> &mut [u8] {
        self.lens[index] = len.min(self.room);
        &mut self.bytes[index * self.room..][..self.lens[index]]
    }

    /// Receives as many datagrams as there are and room is for, and gives their
    /// number. Longer ones than there is room for are cut.
    ///
    /// # Errors
    ///
    /// Gives `WouldBlock` when there is none, else what the kernel says.
    pub fn receive(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<usize> {
        let flags = match wait {
            Wait::Never => libc::MSG_DONTWAIT,
            Wait::ForOne => libc::MSG_WAITFORONE,
        };
        let count = self.capacity();
        self.lens.fill(self.room);
        self.name_lens.fill(size_of::<sockaddr_in6>() as socklen_t);
        self.prepare(count, true);
        // SAFETY: The first `count` heads point to pieces and names that live through the call,
        // and each piece to `room` bytes of its own, which nothing else uses meanwhile.
        let received = check(unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.heads.as_mut_ptr(),
                count as c_uint,
                flags,
                ptr::null_mut(),
            )
        })?;
        for (index, head) in self.heads[..received].iter().enumerate() {
            self.lens[index] = (head.msg_len as usize).min(self.room);
            self.name_lens[index] = head.msg_hdr.msg_namelen;
        }
        Ok(received)
    }

    /// Sends the first `count` datagrams on a connected socket, without
    /// waiting, and gives the number of those that were sent.
    ///
    /// # Errors
    ///
    /// Gives `WouldBlock` when the socket takes none, else what the kernel says.
    pub fn send(&mut self, socket: &UdpSocket, count: usize) -> io::Result<usize> {
        self.prepare(count, false);
        self.transmit(socket, 0, count, libc::MSG_DONTWAIT)
    }

    /// Sends the first `count` datagrams to where they came from; waits until the
    /// socket took all of them.
    ///
    /// # Errors
    ///
    /// Passes on what the kernel says; then some may not have been sent.
    pub fn send_back(&mut self, socket: &UdpSocket, count: usize) -> io::Result<()> {
        self.prepare(count, true);
        let mut sent = 0;
        while sent < count {
            sent += self.transmit(socket, sent, count, 0)?;
        }
        Ok(())
    }

    /// Points the first `count` heads to their bytes, and to their addresses
    /// when they are `addressed`.
    fn prepare(&mut self, count: usize, addressed: bool) {
        let rooms = self.bytes.chunks_exact_mut(self.room);
        let items = self.heads[..count]
            .iter_mut()
            .zip(&mut self.pieces)
            .zip(&mut self.names)
            .zip(rooms)
            .enumerate();
        for (index, (((head, piece), name), room)) in items {
            piece.iov_base = room.as_mut_ptr().cast();
            piece.iov_len = self.lens[index];
            head.msg_hdr.msg_iov = piece;
            head.msg_hdr.msg_iovlen = 1;
            if addressed {
                head.msg_hdr.msg_name = ptr::from_mut(name).cast();
                head.msg_hdr.msg_namelen = self.name_lens[index];
            } else {
                head.msg_hdr.msg_name = ptr::null_mut();
                head.msg_hdr.msg_namelen = 0;
            }
        }
    }

    fn transmit(
        &mut self,
        socket: &UdpSocket,
        from: usize,
        to: usize,
        flags: c_int,
    ) -> io::Result<usize> {
        let heads = &mut self.heads[from..to];
        // SAFETY: The heads were pointed to pieces, names and bytes that live through the call,
        // and the kernel only reads them, but for the lengths in the heads.
        check(unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                heads.as_mut_ptr(),
                heads.len() as c_uint,
                flags,
            )
        })
    }
}

fn check(result: c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").expect("a port is free")
    }

    #[test]
    fn datagrams_return_to_where_they_came_from() {
        let server = socket();
        let address = server.local_addr().expect("the socket is bound");
        let clients = [socket(), socket()];
        let mut outgoing = Datagrams::new(3, 16);
        for (first, client) in [1, 101].into_iter().zip(&clients) {
            client.connect(address).expect("the address is local");
            for index in 0..3 {
                outgoing.get_mut(index, index + 1).fill(first + index as u8);
            }
            assert_eq!(outgoing.send(client, 3).ok(), Some(3));
        }
        let mut datagrams = Datagrams::new(4, 16);
        let mut answered = 0;
        while answered < 6 {
            let count = datagrams
                .receive(&server, Wait::ForOne)
                .expect("there are datagrams");
            datagrams
                .send_back(&server, count)
                .expect("loopback takes datagrams");
            answered += count;
        }
        for (first, client) in [1, 101].into_iter().zip(&clients) {
            let mut received = 0;
            while received < 3 {
                let count = datagrams
                    .receive(client, Wait::ForOne)
                    .expect("there are answers");
                for index in 0..count {
                    let expected = vec![first + received as u8; received + 1];
                    assert_eq!(datagrams.get(index), expected);
                    received += 1;
                }
            }
            let nothing = datagrams.receive(client, Wait::Never);
            assert!(nothing.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
        }
    }
}
