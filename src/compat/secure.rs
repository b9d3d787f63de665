//! The classic server and client over TLS.

use std::path::PathBuf;

use super::client::classic_client;
use super::config::{ClientConfig, ServerConfig, client_config, refuse, server_config};
use super::result::Result;
use super::server::classic_server;
use super::session::messaging_session;
use crate::client::ClientBuilder;
use crate::endpoint::Endpoint;
use crate::error::ErrorCode;
use crate::server::ServerBuilder;
use crate::tls::{ClientAuth, TlsAuthorities, TlsClient, TlsIdentity, TlsServer, TlsVersion};

/// A session over TLS. [`native`](messaging_session::native) has what TLS found out about the peer
/// ([`Session::tls`](crate::Session::tls)).
pub type secure_session = messaging_session;

/// A server over TLS, in everything else as [`messaging_server`](super::messaging_server).
///
/// ```no_run
/// use network_system::compat::{secure_messaging_client, secure_messaging_server};
///
/// let server = secure_messaging_server::new("SecureServer", "server.crt", "server.key");
/// server.start_server(8443)?;
///
/// let client = secure_messaging_client::new("SecureClient", true);
/// client.start_client("localhost", 8443)?;
/// client.send_packet(b"Encrypted Hello!".to_vec())?;
/// client.stop_client()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type secure_messaging_server = classic_server<secure_server_config>;

/// A client over TLS, in everything else as [`messaging_client`](super::messaging_client). There is an
/// example at [`secure_messaging_server`].
pub type secure_messaging_client = classic_client<secure_client_config>;

/// How a [`secure_messaging_server`] is set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct secure_server_config {
    /// Everything that has nothing to do with TLS.
    pub base: server_config,
    /// The PEM file with the server's certificate, followed by its intermediates.
    pub cert_file: PathBuf,
    /// The PEM file with the private key of the certificate.
    pub key_file: PathBuf,
    /// The PEM file with the authorities whose certificates clients have to show. Default `None`: clients
    /// are not asked for one.
    pub client_ca_file: Option<PathBuf>,
    /// The oldest version of TLS that is spoken. Default TLS 1.2.
    pub min_tls_version: TlsVersion,
}

impl secure_server_config {
    /// The default configuration with a certificate and its key, in PEM files.
    pub fn new(cert_file: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        secure_server_config {
            base: server_config::default(),
            cert_file: cert_file.into(),
            key_file: key_file.into(),
            client_ca_file: None,
            min_tls_version: TlsVersion::V1_2,
        }
    }
}

impl AsMut<server_config> for secure_server_config {
    fn as_mut(&mut self) -> &mut server_config {
        &mut self.base
    }
}

impl ServerConfig for secure_server_config {
    fn place(&self) -> (&str, u16) {
        self.base.place()
    }

    fn place_mut(&mut self) -> (&mut String, &mut u16) {
        self.base.place_mut()
    }

    fn builder(&self) -> Result<ServerBuilder> {
        let identity = TlsIdentity::pem_files(&self.cert_file, &self.key_file);
        let client_auth = match &self.client_ca_file {
            Some(file) => ClientAuth::Required(TlsAuthorities::pem_file(file)),
            None => ClientAuth::None,
        };
        let tls = TlsServer::builder(identity)
            .client_auth(client_auth)
            .min_version(self.min_tls_version)
            .build()?;
        let endpoint = Endpoint::tls(&self.base.bind_address, self.base.port)?;
        Ok(self.base.builder_at(endpoint)?.tls(tls))
    }
}

impl classic_server<secure_server_config> {
    /// A server with the default configuration and a certificate with its key, in PEM files. They are
    /// read at each start.
    pub fn new(
        server_id: impl Into<String>,
        cert_file: impl Into<PathBuf>,
        key_file: impl Into<PathBuf>,
    ) -> Self {
        Self::with_config(server_id, secure_server_config::new(cert_file, key_file))
    }
}

/// How a [`secure_messaging_client`] is set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct secure_client_config {
    /// Everything that has nothing to do with TLS.
    pub base: client_config,
    /// Whether the server has to prove with its certificate that it is the host that was asked for.
    /// Default on. Off, anyone on the way can read and change everything; each connection logs a warning.
    pub verify_certificate: bool,
    /// The PEM file with the authorities that are trusted. Default `None`: those of the platform.
    pub ca_file: Option<PathBuf>,
    /// The PEM file with the certificate that is shown to servers that ask for one, and the file with its
    /// private key. Default `None`.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The oldest version of TLS that is spoken. Default TLS 1.2.
    pub min_tls_version: TlsVersion,
}

impl secure_client_config {
    /// The default configuration, and whether the certificate of the server is verified.
    pub fn new(verify_certificate: bool) -> Self {
        secure_client_config {
            base: client_config::default(),
            verify_certificate,
            ca_file: None,
            identity: None,
            min_tls_version: TlsVersion::V1_2,
        }
    }
}

impl AsMut<client_config> for secure_client_config {
    fn as_mut(&mut self) -> &mut client_config {
        &mut self.base
    }
}

impl ClientConfig for secure_client_config {
    fn builder(&self, client_id: &str, host: &str, port: u16) -> Result<ClientBuilder> {
        let mut tls = TlsClient::builder().min_version(self.min_tls_version);
        match (&self.ca_file, self.verify_certificate) {
            (Some(_), false) => {
                let text = "has no meaning while verify_certificate is off";
                return Err(refuse(ErrorCode::InvalidConfiguration, "ca_file", text));
            }
            (Some(file), true) => tls = tls.authorities(TlsAuthorities::pem_file(file)),
            (None, false) => tls = tls.dangerous_accept_any_certificate(),
            (None, true) => {}
        }
        if let Some((cert_file, key_file)) = &self.identity {
            tls = tls.identity(TlsIdentity::pem_files(cert_file, key_file));
        }
        let builder = self
            .base
            .builder_to(client_id, Endpoint::tls(host, port)?)?;
        Ok(builder.tls(tls.build()?))
    }
}

impl classic_client<secure_client_config> {
    /// A client with the default configuration, and whether the certificate of the server is verified.
    pub fn new(client_id: impl Into<String>, verify_certificate: bool) -> Self {
        Self::with_config(client_id, secure_client_config::new(verify_certificate))
    }
}
