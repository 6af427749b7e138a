//! The host calls of proxy-wasm 0.2.1 themselves, and [`EnvoyHost`] over them.
//!
//! The one place with `unsafe`. The SDK declares these functions too, but reads the returned
//! status as a Rust enum and panics on values it does not list; here a status is a number, and
//! every number but the documented ones is an error.

use core::sync::atomic::{AtomicU32, Ordering};
use std::ptr::null_mut;

use log::LevelFilter;
use prost::Message;

use crate::host::{
    Headers, Host, HostError, Level, Metric, MetricKind, Response, level_filter, write_pairs,
};

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const REQUEST_HEADERS: u32 = 0;
const RESPONSE_TRAILERS: u32 = 3;
const DOWNSTREAM_DATA: u32 = 2;
const PLUGIN_CONFIGURATION: u32 = 7;
const REQUEST: u32 = 0;
const DOWNSTREAM: u32 = 2;

#[expect(
    unsafe_code,
    reason = "the host's functions, as proxy-wasm/spec declares them for ABI 0.2.1"
)]
#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_log_level(level: *mut u32) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_set_effective_context(id: u32) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_set_header_map_pairs(map: u32, data: *const u8, size: usize) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        results: *mut *mut u8,
        results_size: *mut usize,
    ) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_get_metric(id: u32, value: *mut u64) -> u32;
}

/// `envoy.source.extensions.common.wasm.SetEnvoyFilterStateArguments`. The span stays at its
/// default, the life of the filter chain.
#[derive(Clone, PartialEq, Eq, Message)]
struct SetEnvoyFilterState {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// Where `warden package` says which bytes it has put behind this module's own memory: their
/// address and their length. Atomic, because the compiler must not take the zeros for granted.
#[expect(
    unsafe_code,
    reason = "an exported name, which no other symbol has: `warden package` finds the place by it"
)]
#[unsafe(export_name = "warden_embedded_policies")]
static EMBEDDED: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

/// The policies that this module carries. They lie behind the memory that the linker laid out,
/// where the allocator does not go: wasi-libc's heap ends at `__heap_end`, then goes on in pages
/// that it grows the memory by. Were a byte of it changed, its hash would not be the one that the
/// configuration names.
#[expect(
    unsafe_code,
    reason = "within memory, never written, and memory never shrinks: valid for ever"
)]
pub(crate) fn carried() -> Option<&'static [u8]> {
    let [address, length] = &EMBEDDED;
    let address = usize::try_from(address.load(Ordering::Relaxed)).ok()?;
    let length = usize::try_from(length.load(Ordering::Relaxed)).ok()?;
    let end = u64::try_from(address.checked_add(length)?).ok()?;
    if address == 0 || end > memory() {
        return None;
    }
    let first = std::ptr::with_exposed_provenance(address);
    Some(unsafe { std::slice::from_raw_parts(first, length) })
}

/// Bytes of memory.
fn memory() -> u64 {
    const PAGE: u64 = 65_536;
    let pages = core::arch::wasm32::memory_size::<0>();
    u64::try_from(pages)
        .unwrap_or(u64::MAX)
        .saturating_mul(PAGE)
}

/// Envoy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EnvoyHost;

/// Has the `log` facade drop what the host does not log now.
#[expect(
    unsafe_code,
    reason = "a host call: the pointer comes from a local that outlives it"
)]
pub(crate) fn follow_log_level() {
    let mut level = 0;
    let asked = done(unsafe { proxy_get_log_level(&raw mut level) });
    log::set_max_level(asked.map_or(LevelFilter::Trace, |()| level_filter(level)));
}

fn done(status: u32) -> Result<(), HostError> {
    if status == OK { Ok(()) } else { Err(HostError) }
}

/// Bytes that the host hands over: it allocates them in this module's memory by the SDK's
/// `proxy_on_memory_allocate` and leaves them to us.
fn returned(
    call: impl FnOnce(*mut *mut u8, *mut usize) -> u32,
) -> Result<Option<Vec<u8>>, HostError> {
    let mut data = null_mut();
    let mut size = 0;
    match call(&raw mut data, &raw mut size) {
        // The host writes no pointer for an empty value.
        OK if data.is_null() => Ok(Some(Vec::new())),
        #[expect(
            unsafe_code,
            reason = "the allocator made a boxed slice of exactly `size` bytes and gave it away"
        )]
        OK => {
            let bytes = std::ptr::slice_from_raw_parts_mut(data, size);
            Ok(Some(unsafe { Box::from_raw(bytes) }.into_vec()))
        }
        NOT_FOUND => Ok(None),
        _ => Err(HostError),
    }
}

/// Calls one of Envoy's own functions, whose result is only whether it worked.
#[expect(
    unsafe_code,
    reason = "a host call: every pointer comes from a slice or local that outlives it"
)]
fn foreign(name: &str, arguments: &[u8]) -> Result<(), HostError> {
    let results = returned(|data, size| unsafe {
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            data,
            size,
        )
    })?;
    results.map(drop).ok_or(HostError)
}

#[expect(
    unsafe_code,
    reason = "host calls: every pointer comes from a slice or local that outlives the call"
)]
impl Host for EnvoyHost {
    fn property(&self, path: &[&str]) -> Result<Option<Vec<u8>>, HostError> {
        let path = path.join("\0");
        returned(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
    }

    fn set_property(&self, name: &str, value: &[u8]) -> Result<(), HostError> {
        done(unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
    }

    fn set_envoy_filter_state(&self, key: &str, value: &str) -> Result<(), HostError> {
        let arguments = SetEnvoyFilterState {
            path: key.to_owned(),
            value: value.to_owned(),
        };
        foreign("set_envoy_filter_state", &arguments.encode_to_vec())
    }

    fn clear_route_cache(&self) -> Result<(), HostError> {
        foreign("clear_route_cache", &[])
    }

    fn request_headers(&self) -> Result<Headers, HostError> {
        let bytes = returned(|data, size| unsafe {
            proxy_get_header_map_pairs(REQUEST_HEADERS, data, size)
        })?;
        bytes.and_then(Headers::parse).ok_or(HostError)
    }

    fn remove_request_header(&self, name: &str) -> Result<(), HostError> {
        done(unsafe { proxy_remove_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len()) })
    }

    fn remove_response_trailer(&self, name: &str) -> Result<(), HostError> {
        done(unsafe { proxy_remove_header_map_value(RESPONSE_TRAILERS, name.as_ptr(), name.len()) })
    }

    fn set_request_headers(&self, headers: &[(&[u8], &[u8])]) -> Result<(), HostError> {
        let bytes = write_pairs(headers).ok_or(HostError)?;
        done(unsafe { proxy_set_header_map_pairs(REQUEST_HEADERS, bytes.as_ptr(), bytes.len()) })
    }

    fn respond(&self, response: &Response) -> Result<(), HostError> {
        let headers: Vec<(&[u8], &[u8])> = response
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let headers = write_pairs(&headers).ok_or(HostError)?;
        done(unsafe {
            proxy_send_local_response(
                response.status,
                response.details.as_ptr(),
                response.details.len(),
                response.body.as_ptr(),
                response.body.len(),
                headers.as_ptr(),
                headers.len(),
                response.grpc_status,
            )
        })
    }

    fn downstream_data(&self, start: usize, max: usize) -> Result<Vec<u8>, HostError> {
        returned(|data, size| unsafe {
            proxy_get_buffer_bytes(DOWNSTREAM_DATA, start, max, data, size)
        })?
        .ok_or(HostError)
    }

    fn close_downstream(&self) -> Result<(), HostError> {
        done(unsafe { proxy_close_stream(DOWNSTREAM) })
    }

    fn reset_request(&self) -> Result<(), HostError> {
        done(unsafe { proxy_close_stream(REQUEST) })
    }

    fn now(&self) -> Result<u64, HostError> {
        let mut time = 0;
        done(unsafe { proxy_get_current_time_nanoseconds(&raw mut time) }).map(|()| time)
    }

    fn set_tick_period(&self, milliseconds: u32) -> Result<(), HostError> {
        done(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
    }

    fn set_effective_context(&self, id: u32) -> Result<(), HostError> {
        done(unsafe { proxy_set_effective_context(id) })
    }

    fn configuration(&self, size: usize) -> Result<Vec<u8>, HostError> {
        returned(|data, length| unsafe {
            proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, data, length)
        })?
        .ok_or(HostError)
    }

    fn memory(&self) -> u64 {
        memory()
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<Metric, HostError> {
        let kind = match kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
        };
        let mut id = 0;
        done(unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) })
            .map(|()| Metric(id))
    }

    fn increment(&self, counter: Metric, by: i64) -> Result<(), HostError> {
        done(unsafe { proxy_increment_metric(counter.0, by) })
    }

    fn record(&self, gauge: Metric, value: u64) -> Result<(), HostError> {
        done(unsafe { proxy_record_metric(gauge.0, value) })
    }

    fn metric(&self, metric: Metric) -> Result<u64, HostError> {
        let mut value = 0;
        done(unsafe { proxy_get_metric(metric.0, &raw mut value) }).map(|()| value)
    }

    fn logs(&self, level: Level) -> bool {
        level <= log::max_level()
    }

    fn log(&self, level: Level, line: &str) {
        // The SDK's logger writes it, which `entry` installs.
        log::log!(level, "{line}");
    }
}
