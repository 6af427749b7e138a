//! What the module asks of its host, in bytes.
//!
//! Everything here can fail, and a failure is a fact that is not known: never a panic, never an
//! accept. The SDK's own wrappers panic on statuses that Envoy really returns and on header bytes
//! that are not UTF-8, so nothing above this trait uses them.

use log::LevelFilter;

/// The host could not do it, or answered in a form that is not the documented one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostError;

/// Severity of a log line: `Info` for ordinary events, `Warn` for what an operator should look at,
/// `Error` for what is wrong with this module or its configuration.
pub use log::Level;

/// What sort of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only ever grows.
    Counter,
    /// Says how things are now.
    Gauge,
}

/// A metric that was defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric(pub u32);

/// What becomes of the event that was handed over.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It goes on to the next filter.
    Continue,
    /// It stops here.
    Stop,
}

/// Header names and values, in order, duplicates included. They stay where the host has written them:
/// a request has dozens, of which a few are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Where a header is: its name's first byte, and the lengths of name and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    at: usize,
    name: usize,
    value: usize,
}

impl Headers {
    /// Reads the map encoding of proxy-wasm: a count, the sizes of all names and values, then each name
    /// and value with a NUL behind it; numbers are little-endian `u32`.
    #[must_use]
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        let places = places(&bytes)?;
        Some(Self { bytes, places })
    }

    /// Each name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.places.iter().filter_map(|place| {
            let rest = self.bytes.get(place.at..)?;
            let (name, rest) = rest.split_at_checked(place.name)?;
            // Behind the NUL.
            Some((name, rest.get(1..)?.get(..place.value)?))
        })
    }
}

/// An answer that this module gives instead of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u32,
    /// What Envoy's access log prints as response code details.
    pub details: String,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body. Envoy makes it the `grpc-message` of a gRPC request.
    pub body: String,
    /// The gRPC status, used where the request is gRPC.
    pub grpc_status: i32,
}

/// The host, as far as this module needs it.
pub trait Host {
    /// The value of a property (Envoy's attributes, filter state included); `None` where there is
    /// none.
    ///
    /// # Errors
    /// [`HostError`] for every other status.
    fn property(&self, path: &[&str]) -> Result<Option<Vec<u8>>, HostError>;

    /// Sets a property of our own, which is filter state `wasm.NAME`. Clients cannot.
    ///
    /// # Errors
    /// [`HostError`] if it is not set.
    fn set_property(&self, name: &str, value: &[u8]) -> Result<(), HostError>;

    /// Sets filter state that Envoy's own extensions read.
    ///
    /// # Errors
    /// [`HostError`] if it is not set.
    fn set_envoy_filter_state(&self, key: &str, value: &str) -> Result<(), HostError>;

    /// All request headers.
    ///
    /// # Errors
    /// [`HostError`] if they cannot be read whole.
    fn request_headers(&self) -> Result<Headers, HostError>;

    /// Removes every request header of this name.
    ///
    /// # Errors
    /// [`HostError`] if it is not removed.
    fn remove_request_header(&self, name: &str) -> Result<(), HostError>;

    /// Replaces all request headers.
    ///
    /// # Errors
    /// [`HostError`] if they are not replaced.
    fn set_request_headers(&self, headers: &[(&[u8], &[u8])]) -> Result<(), HostError>;

    /// Removes every trailer of this name from the answer.
    ///
    /// # Errors
    /// [`HostError`] if it is not removed.
    fn remove_response_trailer(&self, name: &str) -> Result<(), HostError>;

    /// Makes Envoy choose the route anew, by the headers as they are now.
    ///
    /// # Errors
    /// [`HostError`] if it does not.
    fn clear_route_cache(&self) -> Result<(), HostError>;

    /// Answers the request in the server's place.
    ///
    /// # Errors
    /// [`HostError`] if it is not sent.
    fn respond(&self, response: &Response) -> Result<(), HostError>;

    /// Bytes of a client that are held for this filter, at most `max` from `start` on.
    ///
    /// # Errors
    /// [`HostError`] if they cannot be read.
    fn downstream_data(&self, start: usize, max: usize) -> Result<Vec<u8>, HostError>;

    /// Closes the client's side of the current connection.
    ///
    /// # Errors
    /// [`HostError`] if it is not done.
    fn close_downstream(&self) -> Result<(), HostError>;

    /// Ends the current request, whose bytes so far have gone their way.
    ///
    /// # Errors
    /// [`HostError`] if it is not done.
    fn reset_request(&self) -> Result<(), HostError>;

    /// Nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`HostError`] if there is no clock.
    fn now(&self) -> Result<u64, HostError>;

    /// Asks for a tick every so many milliseconds.
    ///
    /// # Errors
    /// [`HostError`] if there will be none.
    fn set_tick_period(&self, milliseconds: u32) -> Result<(), HostError>;

    /// Makes the calls that follow mean this context. Needed only in a tick.
    ///
    /// # Errors
    /// [`HostError`] if there is no such context.
    fn set_effective_context(&self, id: u32) -> Result<(), HostError>;

    /// The module's configuration.
    ///
    /// # Errors
    /// [`HostError`] if it cannot be read.
    fn configuration(&self, size: usize) -> Result<Vec<u8>, HostError>;

    /// Bytes of memory that the module has grown to. It never shrinks, so this is the peak.
    fn memory(&self) -> u64;

    /// Defines a metric, or finds it again.
    ///
    /// # Errors
    /// [`HostError`] if it is not defined.
    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<Metric, HostError>;

    /// Adds to a counter.
    ///
    /// # Errors
    /// [`HostError`] if it is not added.
    fn increment(&self, counter: Metric, by: i64) -> Result<(), HostError>;

    /// Sets a gauge.
    ///
    /// # Errors
    /// [`HostError`] if it is not set.
    fn record(&self, gauge: Metric, value: u64) -> Result<(), HostError>;

    /// Reads a metric, whichever instance of the module wrote it.
    ///
    /// # Errors
    /// [`HostError`] if it is not read.
    fn metric(&self, metric: Metric) -> Result<u64, HostError>;

    /// Whether the host logs lines of this level, as of the last tick.
    fn logs(&self, level: Level) -> bool;

    /// Writes a log line, if the host logs at this level. Verdicts do not depend on it.
    fn log(&self, level: Level, line: &str);
}

/// The filter for the host's log level. Envoy answers `proxy_get_log_level` with spdlog's number,
/// which goes on to `off` where the SDK's enum ends. An unknown one filters nothing: the host drops
/// by itself what it does not log.
#[must_use]
pub const fn level_filter(number: u32) -> LevelFilter {
    match number {
        1 => LevelFilter::Debug,
        2 => LevelFilter::Info,
        3 => LevelFilter::Warn,
        4 => LevelFilter::Error,
        // Critical is for the panic hook alone, which asks no filter.
        5 | 6 => LevelFilter::Off,
        _ => LevelFilter::Trace,
    }
}

/// Where each header is, if the bytes are a map and nothing else.
fn places(bytes: &[u8]) -> Option<Vec<Place>> {
    let (count, mut sizes) = split_u32(bytes)?;
    let sizes_length = count.checked_mul(8)?;
    let mut data = sizes.get(sizes_length..)?;
    let mut places = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, rest) = split_u32(sizes)?;
        let (value, rest) = split_u32(rest)?;
        sizes = rest;
        places.push(Place {
            at: bytes.len().checked_sub(data.len())?,
            name,
            value,
        });
        data = behind_terminated(behind_terminated(data, name)?, value)?;
    }
    data.is_empty().then_some(places)
}

fn split_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*first)).ok()?, rest))
}

fn behind_terminated(bytes: &[u8], size: usize) -> Option<&[u8]> {
    bytes.get(size..)?.strip_prefix(&[0])
}

/// The same encoding, the other way.
#[must_use]
pub fn write_pairs(pairs: &[(&[u8], &[u8])]) -> Option<Vec<u8>> {
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).ok();
    let mut bytes = u32::try_from(pairs.len()).ok()?.to_le_bytes().to_vec();
    for (key, value) in pairs {
        bytes.extend(size(key)?.to_le_bytes());
        bytes.extend(size(value)?.to_le_bytes());
    }
    for (key, value) in pairs {
        bytes.extend_from_slice(key);
        bytes.push(0);
        bytes.extend_from_slice(value);
        bytes.push(0);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
