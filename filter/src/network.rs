//! The network filter.

use std::rc::Rc;

use crate::host::{Flow, Host};
use crate::plugin::Plugin;

/// One connection.
#[derive(Debug)]
pub struct Network<H> {
    plugin: Rc<Plugin<H>>,
}

impl<H: Host> Network<H> {
    /// A connection under this configuration.
    pub const fn new(plugin: Rc<Plugin<H>>) -> Self {
        Self { plugin }
    }

    /// Judges by what is known at accept.
    pub fn on_new_connection(&self) -> Flow {
        let _ = self.plugin.host.close_downstream();
        Flow::Stop
    }

    /// Holds client bytes while undecided.
    pub fn on_downstream_data(&self, _size: usize) -> Flow {
        Flow::Stop
    }

    /// Holds server bytes while undecided.
    pub fn on_upstream_data(&self, _size: usize) -> Flow {
        Flow::Stop
    }
}
