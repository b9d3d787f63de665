//! Hosts, and the ends of connections.

use super::*;

/// The network as one host sees it.
pub(super) struct Host {
    pub(super) net: Net,
    pub(super) ip: IpAddr,
    pub(super) seed: u64,
}

impl Network for Host {
    fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Arrivals>> {
        let mut state = self.net.lock();
        if state.listeners.contains_key(&at) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listeners.insert(at, Backlog::default());
        state.trace.note("listen", &[u64::from(at.port())]);
        Ok(Box::new(Listening {
            net: self.net.clone(),
            at,
        }))
    }

    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Connected>> {
        let (net, ip) = (self.net.clone(), self.ip);
        Box::pin(async move {
            // There and back again, once the way is free.
            loop {
                let (heals, latency) = {
                    let mut state = net.lock();
                    (state.heals(ip), state.latency())
                };
                tokio::time::sleep_until(heals + 2 * latency).await;
                if net.lock().heals(ip) <= Instant::now() {
                    break;
                }
            }
            let mut state = net.lock();
            let port = 1_024 + (state.next % 60_000) as u16;
            let from = SocketAddr::new(ip, port);
            let id = state.connect(from, to)?;
            drop(state);
            Ok((net.socket(id, 0), from))
        })
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.ip)
    }
}

impl Net {
    fn socket(&self, id: u64, side: usize) -> Box<dyn Socket> {
        Box::new(End {
            net: self.clone(),
            id,
            side,
            timers: [None, None],
        })
    }
}

struct Listening {
    net: Net,
    at: SocketAddr,
}

impl Arrivals for Listening {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Connected>> {
        let mut state = self.net.lock();
        let Some(backlog) = state.listeners.get_mut(&self.at) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let Some((id, from)) = backlog.arrived.pop_front() else {
            backlog.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        state.trace.note("accept", &[id]);
        drop(state);
        Poll::Ready(Ok((self.net.socket(id, 1), from)))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut state = self.net.lock();
        let waiting = state.listeners.remove(&self.at);
        for (id, _) in waiting.into_iter().flat_map(|backlog| backlog.arrived) {
            state.break_at(id, 1, Break::Reset);
            state.close(id, 1);
        }
    }
}

/// One end of a connection: side 0 is the client's.
struct End {
    net: Net,
    id: u64,
    side: usize,
    /// When to look again, for the reader and for the writer.
    timers: [Option<Pin<Box<Sleep>>>; 2],
}

impl End {
    /// Wakes the task at that time.
    fn look_again(&mut self, which: usize, at: Option<Instant>, context: &mut Context<'_>) {
        let Some(at) = at else { return };
        let timer =
            self.timers[which].get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        timer.as_mut().reset(at);
        if timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let read = this
            .net
            .lock()
            .read(this.id, this.side, into, context.waker());
        match read {
            Read::Some => Poll::Ready(Ok(())),
            Read::Failed(kind) => Poll::Ready(Err(kind.into())),
            Read::Later(at) => {
                this.look_again(0, at, context);
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut state = this.net.lock();
        let written = state.write(this.id, this.side, bytes, context.waker());
        if written.is_pending() {
            let reset = state
                .connections
                .get(&this.id)
                .and_then(|connection| connection.reset[this.side]);
            drop(state);
            this.look_again(1, reset, context);
        }
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = Vec::new();
        for slice in slices {
            bytes.extend_from_slice(slice);
        }
        self.poll_write(context, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.net.lock().shut(self.id, self.side);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.net.lock().close(self.id, self.side);
    }
}
