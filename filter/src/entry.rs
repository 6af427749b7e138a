//! Where Envoy calls in: the SDK's traits over this module's contexts.

use std::rc::Rc;

use egress_policy::config::Context as Site;
use egress_policy::embedded::Embedded;
use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

use crate::abi::{EnvoyHost, carried, follow_log_level};
use crate::host::Flow;
use crate::http::Http;
use crate::network::Network;
use crate::plugin::Plugin;
use crate::readiness::ReadinessGate;
use crate::role::{Role, accept_configuration};

proxy_wasm::main! {{
    // The logger behind the `log` facade, and the panic hook: what a trap was about is then in
    // Envoy's log. The level is the host's from the first configuration on.
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

thread_local! {
    /// One for the VM, so that all plugin instances in it share what is compiled.
    static EMBEDDED: Embedded<'static> = Embedded::new(carried());
}

#[derive(Default)]
struct Root {
    role: Option<Role<EnvoyHost>>,
}

impl Root {
    /// The instance that judges, if this is one.
    fn plugin(&self) -> Option<&Rc<Plugin<EnvoyHost>>> {
        match &self.role {
            Some(Role::Policies(plugin)) => Some(plugin),
            Some(Role::Readiness(_)) | None => None,
        }
    }
}

const fn action(flow: Flow) -> Action {
    match flow {
        Flow::Continue => Action::Continue,
        Flow::Stop => Action::Pause,
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        follow_log_level();
        match EMBEDDED.with(|embedded| accept_configuration(&EnvoyHost, size, embedded)) {
            Some(role) => {
                self.role = Some(role);
                true
            }
            None => false,
        }
    }

    fn on_tick(&mut self) {
        follow_log_level();
        if let Some(plugin) = self.plugin() {
            plugin.tick();
        }
    }

    /// Envoy asks once per stream. A module that stands in a chain of the other kind than its
    /// configuration says traps there, which is closed.
    fn get_type(&self) -> Option<ContextType> {
        let network = self
            .plugin()
            .is_some_and(|plugin| plugin.config.context == Site::Network);
        Some(if network {
            ContextType::StreamContext
        } else {
            ContextType::HttpContext
        })
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let plugin = match self.role.as_ref()? {
            Role::Policies(plugin) => Rc::clone(plugin),
            Role::Readiness(gate) => return Some(Box::new(ReadinessContext(Rc::clone(gate)))),
        };
        Some(Box::new(RequestContext(Http::new(plugin))))
    }

    fn create_stream_context(&self, id: u32) -> Option<Box<dyn StreamContext>> {
        let plugin = Rc::clone(self.plugin()?);
        Some(Box::new(ConnectionContext(Network::new(plugin, id))))
    }
}

struct RequestContext(Http<EnvoyHost>);

impl Context for RequestContext {}

impl HttpContext for RequestContext {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        action(self.0.on_request_headers())
    }

    fn on_http_request_body(&mut self, _size: usize, _end: bool) -> Action {
        action(self.0.on_more())
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        action(self.0.on_more())
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        action(self.0.on_more())
    }

    fn on_http_response_body(&mut self, _size: usize, _end: bool) -> Action {
        action(self.0.on_answer())
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        action(self.0.on_answer_trailers())
    }
}

struct ReadinessContext(Rc<ReadinessGate<EnvoyHost>>);

impl Context for ReadinessContext {}

impl HttpContext for ReadinessContext {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        action(self.0.on_request_headers())
    }
}

struct ConnectionContext(Network<EnvoyHost>);

impl Context for ConnectionContext {}

impl StreamContext for ConnectionContext {
    fn on_new_connection(&mut self) -> Action {
        action(self.0.on_new_connection())
    }

    fn on_downstream_data(&mut self, size: usize, _end: bool) -> Action {
        action(self.0.on_downstream_data(size))
    }

    fn on_upstream_data(&mut self, size: usize, _end: bool) -> Action {
        action(self.0.on_upstream_data(size))
    }
}
