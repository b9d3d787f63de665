//! Unix sockets.
//!
//! A listener's socket is made under a temporary name in the same directory, gets its mode, begins to
//! listen, and only then gets its real name, by a hard link, which never replaces anything. So whoever
//! sees the file sees mode 0600 and a socket that accepts: it cannot be mistaken for a stale one by
//! another server that starts at the same time. The process-wide umask is left alone.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use super::layers::{Accepting, Dialing};
use super::stream::socket_stream;
use super::{Incoming, LinkConfig, Listener, ServerOptions};
use crate::config::SocketOptions;
use crate::endpoint::Endpoint;
use crate::session::Transport;
use crate::session::link::Link;
use crate::session::shared::{PeerInfo, lock};

/// Whether this platform has Unix sockets.
pub(crate) const AVAILABLE: bool = true;

/// Connections that the system completes before they are accepted. Linux caps it at `somaxconn`.
const BACKLOG: i32 = 4_096;

/// How often a name that others take and free at the same time is tried.
const ATTEMPTS: usize = 10;

/// Within the process, one server at a time looks at a name and takes it.
static BINDING: Mutex<()> = Mutex::new(());

/// A listening Unix socket. The file goes when the listener does.
#[derive(Debug)]
pub(crate) struct Unix {
    // Dropped after the file was removed, so that there is never a file without a listener.
    listener: UnixListener,
    /// `None` when it belongs to somebody else.
    file: Option<SocketFile>,
    layers: Accepting,
    config: LinkConfig,
}

impl Unix {
    /// Binds and listens. Must be called inside a runtime.
    ///
    /// A socket file at which nobody accepts is replaced. One at which somebody does, and a file of any
    /// other kind, is `AddrInUse`.
    pub(crate) fn bind(
        path: &Path,
        endpoint: &Endpoint,
        config: LinkConfig,
        options: &ServerOptions,
    ) -> io::Result<Self> {
        let layers = Accepting::new(endpoint, None, &config, options)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        apply(&SockRef::from(&socket), &config.socket)?;
        let _binding = lock(&BINDING);
        let staging = Staging::bind(&socket, path)?;
        // Between these two nobody can connect, whatever the umask: the socket does not listen yet.
        fs::set_permissions(&staging.path, fs::Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG)?;
        let listener = UnixListener::from_std(net::UnixListener::from(socket))?;
        // Nothing can fail any more once the file has its name.
        let file = staging.publish(path)?;
        Ok(Unix {
            listener,
            file: Some(file),
            layers,
            config,
        })
    }
}

impl Unix {
    /// Takes a socket that is bound and listening. Its file stays when the listener goes.
    pub(crate) fn from_std(
        listener: net::UnixListener,
        endpoint: &Endpoint,
        config: LinkConfig,
        options: &ServerOptions,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        apply(&SockRef::from(&listener), &config.socket)?;
        let layers = Accepting::new(endpoint, None, &config, options)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Unix {
            listener: UnixListener::from_std(listener)?,
            file: None,
            layers,
            config,
        })
    }
}

impl Listener for Unix {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        let (stream, _) = ready!(self.listener.poll_accept(context))?;
        apply(&SockRef::from(&stream), &self.config.socket)?;
        let peer = peer(self.layers.transport());
        let link = self.layers.link(stream, None)?;
        Poll::Ready(Ok(Incoming { link, peer }))
    }

    fn url(&self) -> String {
        self.layers.url()
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.remove();
        }
    }
}

/// Connects to the socket at `path`.
pub(crate) async fn connect(
    path: &Path,
    layers: &Dialing,
    config: &LinkConfig,
) -> io::Result<(Box<dyn Link>, PeerInfo)> {
    let stream = UnixStream::connect(path).await?;
    apply(&SockRef::from(&stream), &config.socket)?;
    Ok((layers.link(stream)?, peer(layers.transport())))
}

fn peer(transport: Transport) -> PeerInfo {
    PeerInfo {
        transport,
        remote: None,
        local: None,
    }
}

/// Buffer sizes apply; nodelay and keep-alive have no meaning here.
fn apply(socket: &SockRef<'_>, options: &SocketOptions) -> io::Result<()> {
    if options.receive_buffer_size > 0 {
        socket.set_recv_buffer_size(options.receive_buffer_size)?;
    }
    if options.send_buffer_size > 0 {
        socket.set_send_buffer_size(options.send_buffer_size)?;
    }
    Ok(())
}

/// Which file it is, whatever its name.
type Identity = (u64, u64);

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn random() -> io::Result<u32> {
    getrandom::u32().map_err(|error| io::Error::other(error.to_string()))
}

/// A socket under its temporary name, which is removed in any case.
struct Staging {
    path: PathBuf,
    identity: Identity,
}

impl Staging {
    fn bind(socket: &Socket, path: &Path) -> io::Result<Self> {
        // A path that fits is refused with the system's own words if it does not.
        SockAddr::unix(path)?;
        let mut attempts = 0;
        loop {
            // Short, because the length of the path of a socket is limited to about 100 bytes.
            let name = format!(".{:07x}", random()? >> 4);
            let staging = path.with_file_name(name);
            match socket.bind(&SockAddr::unix(&staging)?) {
                Ok(()) => {
                    let identity = identity(&staging).inspect_err(|_| {
                        let _ = fs::remove_file(&staging);
                    })?;
                    return Ok(Staging {
                        path: staging,
                        identity,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts < ATTEMPTS => {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the socket its real name, and removes a stale one.
    fn publish(&self, path: &Path) -> io::Result<SocketFile> {
        for _ in 0..ATTEMPTS {
            match self.name(path) {
                Ok(()) => {
                    return Ok(SocketFile {
                        path: path.to_owned(),
                        identity: self.identity,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    remove_stale(path)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(in_use("others take and free the name all the time"))
    }

    fn name(&self, path: &Path) -> io::Result<()> {
        match fs::hard_link(&self.path, path) {
            // A file system without hard links. There, two servers that start at once can collide.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
                ) && matches!(fs::symlink_metadata(path),
                    Err(error) if error.kind() == io::ErrorKind::NotFound) =>
            {
                fs::rename(&self.path, path)
            }
            result => result,
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a rename there is nothing left, which is fine.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket file at which nobody accepts. Any other file stays and is an error.
fn remove_stale(path: &Path) -> io::Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if gone(&error) => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.file_type().is_socket() {
        return Err(in_use(
            "there is a file at this path, and it is not a socket",
        ));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full backlog must not hold the start up. It also is a sign of life.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if gone(&error) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Ok(()) => return Err(in_use("another server accepts there")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(in_use(
                "another server listens there, and its backlog is full",
            ));
        }
        Err(error) => return Err(error),
    }
    // What was judged is what is removed, unless another process replaces it between these two calls.
    match identity(path) {
        Ok(found) if found == (metadata.dev(), metadata.ino()) => match fs::remove_file(path) {
            Err(error) if !gone(&error) => Err(error),
            _ => Ok(()),
        },
        Err(error) if !gone(&error) => Err(error),
        _ => Ok(()),
    }
}

fn in_use(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, text)
}

/// The file of a listener.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

impl SocketFile {
    /// Removes the file if it is still this listener's.
    fn remove(&self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

socket_stream!(UnixStream);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A directory of the test's own, removed at its end.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path =
                std::env::temp_dir().join(format!("netsys-unix-{}-{count}", std::process::id()));
            fs::create_dir(&path).expect("a directory");
            Directory(path)
        }

        fn entries(&self) -> usize {
            fs::read_dir(&self.0).expect("the directory").count()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn bind(path: &Path) -> io::Result<Unix> {
        let endpoint = Endpoint::unix(path).expect("an endpoint");
        let config = LinkConfig {
            message_limit: 1_000,
            socket: SocketOptions::default(),
            udp: Default::default(),
        };
        Unix::bind(path, &endpoint, config, &ServerOptions::default())
    }

    fn kind_of(result: io::Result<Unix>) -> io::ErrorKind {
        result.expect_err("an error").kind()
    }

    #[tokio::test]
    async fn the_file_is_the_owners_alone_and_goes_with_the_listener() {
        let directory = Directory::new();
        let path = directory.0.join("s");
        let listener = bind(&path).expect("bound");
        let metadata = fs::symlink_metadata(&path).expect("a file");
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.mode() & 0o7777, 0o600);
        assert_eq!(directory.entries(), 1);
        drop(listener);
        assert_eq!(directory.entries(), 0);
    }

    #[tokio::test]
    async fn a_stale_file_is_replaced_and_a_live_one_is_not() {
        let directory = Directory::new();
        let path = directory.0.join("s");
        // Closing a socket leaves its file, as a crash does.
        drop(net::UnixListener::bind(&path).expect("bound"));
        let listener = bind(&path).expect("stale, so replaced");
        assert_eq!(kind_of(bind(&path)), io::ErrorKind::AddrInUse);
        net::UnixStream::connect(&path).expect("still accepting");
        drop(listener);
        bind(&path).expect("free again");
    }

    #[tokio::test]
    async fn what_is_not_a_socket_is_never_removed() {
        let directory = Directory::new();
        let path = directory.0.join("s");
        fs::write(&path, "precious").expect("written");
        assert_eq!(kind_of(bind(&path)), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).expect("still there"), b"precious");
        // A link is judged for itself, not for where it points.
        let stale = directory.0.join("t");
        drop(net::UnixListener::bind(&stale).expect("bound"));
        let link = directory.0.join("u");
        std::os::unix::fs::symlink(&stale, &link).expect("linked");
        assert_eq!(kind_of(bind(&link)), io::ErrorKind::AddrInUse);
        assert_eq!(directory.entries(), 3);
    }

    #[tokio::test]
    async fn a_file_that_another_has_put_in_its_place_stays() {
        let directory = Directory::new();
        let path = directory.0.join("s");
        let listener = bind(&path).expect("bound");
        fs::remove_file(&path).expect("removed");
        let other = net::UnixListener::bind(&path).expect("bound");
        drop(listener);
        net::UnixStream::connect(&path).expect("the other accepts");
        drop(other);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_servers_that_find_a_stale_file_at_once_one_gets_the_name() {
        let directory = Directory::new();
        let path = directory.0.join("s");
        for _ in 0..20 {
            drop(net::UnixListener::bind(&path).expect("bound"));
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    let path = path.clone();
                    tokio::spawn(async move { bind(&path) })
                })
                .collect();
            let mut won = Vec::new();
            for start in starts {
                won.extend(start.await.expect("joined"));
            }
            assert_eq!(won.len(), 1);
            net::UnixStream::connect(&path).expect("accepting");
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_an_error() {
        let directory = Directory::new();
        let path = directory.0.join("missing").join("s");
        assert_eq!(kind_of(bind(&path)), io::ErrorKind::NotFound);
    }
}
