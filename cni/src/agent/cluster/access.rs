//! Being let in by the API server.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, Uri};
use kube::client::{Body, ClientBuilder, DynBody};
use kube::{Client, Config};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tower::BoxError;
use tower::filter::FilterLayer;
use tower::limit::RateLimitLayer;
use tower::timeout::TimeoutLayer;
use tower::util::{BoxService, MapResultLayer};

use super::ClusterError;
use super::watched::WATCH_SECONDS;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until an answer begins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte in an answer: longer than the server keeps a silent watch open.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS + 10);

/// How often one watch asks at most.
const REQUESTS: u64 = 2;
const REQUESTS_TIME: Duration = Duration::from_secs(1);

type BoxedService = BoxService<Request<Body>, Response<Box<DynBody>>, BoxError>;

/// Where the API server is, and what shows who is who.
#[derive(Debug, Clone)]
pub struct Access {
    /// Its address, `https://HOST:PORT`.
    pub server: String,
    /// The authorities to trust (PEM), and no others. A new file takes effect with the next
    /// connection.
    pub ca_file: PathBuf,
    /// The token to send, read for every request because it rotates.
    pub token_file: PathBuf,
}

impl Access {
    /// The file of authorities as it is now.
    pub(super) fn authorities(&self) -> Result<Vec<u8>, ClusterError> {
        read(&self.ca_file)
    }

    /// A client, which needs to be made inside a runtime, and the authorities that it trusts.
    pub(super) fn connect(&self) -> Result<(Vec<u8>, Client), ClusterError> {
        let (authorities, builder) = self.builder(|| ())?;
        Ok((authorities, builder.build()))
    }

    /// The same for one watch. `begun` is called whenever the server has taken it up. A server
    /// that ends watches at once is not asked again as fast: `kube` pauses after errors only.
    pub(super) fn connect_watch(
        &self,
        begun: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Result<(Vec<u8>, Client), ClusterError> {
        let (authorities, builder) = self.builder(begun)?;
        let limited = RateLimitLayer::new(REQUESTS, REQUESTS_TIME);
        Ok((authorities, builder.with_layer(&limited).build()))
    }

    fn builder(
        &self,
        begun: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Result<(Vec<u8>, ClientBuilder<BoxedService>), ClusterError> {
        let authorities = self.authorities()?;
        let builder = ClientBuilder::try_from(self.config(&authorities)?)
            .map_err(|error| ClusterError::transport(&self.server, &error))?;
        let token_file = self.token_file.clone();
        let is_watch = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_watch);
        let authorize = move |mut request: Request<Body>| -> Result<Request<Body>, BoxError> {
            let query = request.uri().query().unwrap_or_default();
            asked.store(query.contains("watch="), Ordering::Release);
            let token = String::from_utf8(read(&token_file)?)?;
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
            Ok(request)
        };
        let answered = move |answer: Result<Response<Box<DynBody>>, BoxError>| {
            let answer = answer?;
            let status = answer.status();
            if status.is_success() && is_watch.load(Ordering::Acquire) {
                begun();
            }
            // `kube` reads everything below 400 as what it has asked for.
            if status.is_success() || status.is_client_error() || status.is_server_error() {
                Ok(answer)
            } else {
                Err(BoxError::from(format!("status {status}")))
            }
        };
        let builder = builder
            .with_layer(&TimeoutLayer::new(ANSWER_TIMEOUT))
            .with_layer(&MapResultLayer::new(answered))
            .with_layer(&FilterLayer::new(authorize))
            .with_layer(&tower::layer::layer_fn(BoxedService::new));
        Ok((authorities, builder))
    }

    fn config(&self, authorities: &[u8]) -> Result<Config, ClusterError> {
        let server: Uri = self
            .server
            .parse()
            .map_err(|error| ClusterError::Decode(format!("`{}`: {error}", self.server)))?;
        if server.scheme_str() != Some("https") {
            return Err(ClusterError::Decode(format!(
                "`{}`: the token is sent over TLS only",
                self.server
            )));
        }
        let unusable =
            |reason: &str| ClusterError::Decode(format!("{}: {reason}", self.ca_file.display()));
        let certificates: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(authorities)
            .map(|found| found.map(|certificate| certificate.to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(&error.to_string()))?;
        if certificates.is_empty() {
            return Err(unusable("no certificate"));
        }
        let mut config = Config::new(server);
        config.root_cert = Some(certificates);
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(SILENCE);
        config.reset_reader_on_write = true;
        // The next pass, or the watch's own pause, asks again.
        config.default_retry = false;
        Ok(config)
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, ClusterError> {
    std::fs::read(path)
        .map_err(|error| ClusterError::Decode(format!("{}: {error}", path.display())))
}
