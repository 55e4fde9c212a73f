//! Listeners that applications open and close while the shard runs.

use quinn_proto::ServerConfig;

use super::config::ShardError;
use super::core::{Core, Endpoint, Service};
use super::setup::check_listener;
use crate::transport::StreamLimits;

impl Core {
    /// Accepts connections on a UDP port for an application.
    pub(crate) fn listen(
        &mut self,
        application: u16,
        udp_port: u16,
        server: ServerConfig,
        alpns: Vec<(Vec<u8>, bool)>,
        streams: Option<StreamLimits>,
    ) -> Result<(), ShardError> {
        let here = |endpoint: &Endpoint| endpoint.udp_ports.contains(&udp_port);
        let found = self.endpoints.iter().position(here);
        let taken = found.is_some_and(|index| !self.endpoints[index].closed);
        check_listener(udp_port, taken, alpns.iter().map(|(alpn, _)| &alpn[..]))?;
        let services = alpns.into_iter().map(|(alpn, early_data)| Service {
            alpn,
            early_data,
            application,
        });
        let services = services.collect();
        // Its connections are still in one that was closed; and whoever listens often does not have ever more of them.
        if let Some(index) = found {
            let server = self.maker.server(server);
            let endpoint = &mut self.endpoints[index];
            endpoint.quinn.set_server_config(Some(server));
            endpoint.services = services;
            endpoint.streams = streams;
            // Handshakes that were begun for the one before it are not its clients.
            endpoint.generation = endpoint.generation.wrapping_add(1);
            endpoint.owner = Some(application);
            endpoint.closed = false;
            return Ok(());
        }
        let endpoint = Endpoint {
            udp_ports: udp_port..=udp_port,
            services,
            streams,
            generation: 0,
            owner: Some(application),
            closed: false,
            quinn: self.maker.make(Some((udp_port, server)))?,
            routes: Vec::new(),
        };
        match self.unused() {
            Some(index) => self.endpoints[index] = endpoint,
            None => self.endpoints.push(endpoint),
        }
        Ok(())
    }

    /// A closed endpoint without connections.
    fn unused(&self) -> Option<usize> {
        let mut endpoints = self.endpoints.iter().enumerate();
        let found = endpoints.find(|&(index, endpoint)| {
            endpoint.closed
                && endpoint.quinn.open_connections() == 0
                // Some are drained, but still here for this turn.
                && !self.entries.iter().any(|(_, entry)| usize::from(entry.endpoint) == index)
        });
        found.map(|(index, _)| index)
    }

    /// Accepts no more connections on a UDP port of an application, whose connections live on.
    pub(crate) fn unlisten(&mut self, application: u16, udp_port: u16) {
        let of_application = self.listeners_of(application);
        for endpoint in of_application.filter(|endpoint| endpoint.udp_ports.contains(&udp_port)) {
            endpoint.closed = true;
        }
    }

    /// Closes the listeners of an application that failed.
    pub(crate) fn unlisten_all_of(&mut self, application: u16) {
        for endpoint in self.listeners_of(application) {
            endpoint.closed = true;
        }
    }

    fn listeners_of(&mut self, application: u16) -> impl Iterator<Item = &mut Endpoint> {
        let endpoints = self.endpoints.iter_mut();
        endpoints.filter(move |endpoint| endpoint.owner == Some(application))
    }
}
