//! From a plan to what a shard is made of: TLS, transport settings, services, clients.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{ServerConfig, TransportConfig};
use thiserror::Error;
use tracing::info;

use super::shared::Shared;
use crate::app::{Application, ConnectTarget, NewApplication, from_fn};
use crate::clients::echo::EchoClient;
use crate::clients::hq::{HqClient, ThreadStart};
use crate::clients::perf::PerfClient;
use crate::clients::{ClientError, ClientHandle, Rate};
use crate::plan::{
    self, Checks, ClientAuthPlan, ClientPlan, IdentitySource, ListenerPlan, Load, Plan,
    ServicePlan, TransportPlan, TrustPlan,
};
use crate::services::ServiceCounters;
use crate::services::echo::EchoService;
use crate::services::hq::HqServer;
use crate::services::hq::files::FileError;
use crate::services::perf::PerfService;
use crate::shard::{ListenerConfig, ServiceConfig, ShardConfig, ShardCounters, ShardLimits};
use crate::tls::{
    Anchors, ClientAuth, ClientTls, Fingerprint, Identity, ServerTls, TlsError, Trust,
    client_config, server_config,
};
use crate::transport::{AckFrequency, Congestion, TransportError, TransportSettings};

/// Why the QUIC side of a plan could not be made.
#[derive(Debug, Error)]
pub enum QuicError {
    /// Certificates, keys, trust anchors.
    #[error("{what}: {source}")]
    Tls {
        /// What they are for.
        what: String,
        /// The reason.
        source: TlsError,
    },
    /// Transport settings.
    #[error("transport: {0}")]
    Transport(#[from] TransportError),
    /// The folder of files to serve.
    #[error("listener {listener}: {source}")]
    Files {
        /// The listener's name in the file.
        listener: String,
        /// The reason.
        source: FileError,
    },
    /// A client's parameters or its output folder.
    #[error("client {client}: {source}")]
    Client {
        /// The client's name in the file.
        client: String,
        /// The reason.
        source: ClientError,
    },
}

/// An unreliable datagram that has not come back after this time counts as lost.
const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(1);

/// Looks into certificates when a plan is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsChecks;

impl Checks for TlsChecks {
    fn identity(&self, certificate: &Path, key: &Path) -> Result<(), String> {
        Identity::from_files(certificate, key)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn anchors(&self, files: &[PathBuf]) -> Result<(), String> {
        Anchors::from_files(files)
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// What is made once for all shards.
pub(super) struct Quic<'a> {
    plan: &'a Plan,
    identities: Vec<Identity>,
    /// By the listeners' names. What shards must have in common for a client to meet any of them stands behind pointers
    /// in these: keys of tokens and tickets, sessions, the log of used tokens.
    servers: HashMap<&'a str, ServerConfig>,
}

/// A client of the run, as the report and the live line see it.
#[derive(Debug, Clone)]
pub struct NamedClient {
    /// Its name in the file.
    pub name: String,
    /// Index of its shard.
    pub shard: usize,
    /// Its counters and results.
    pub handle: ClientHandle,
}

impl<'a> Quic<'a> {
    /// Loads or makes the identities, and what listeners are made of.
    pub(super) fn new(plan: &'a Plan) -> Result<Self, QuicError> {
        let identities = plan
            .identities
            .iter()
            .map(|identity| {
                let made = match &identity.source {
                    IdentitySource::SelfSigned(names) => Identity::self_signed(names),
                    IdentitySource::Files { certificate, key } => {
                        Identity::from_files(certificate, key)
                    }
                }
                .map_err(|source| QuicError::Tls {
                    what: format!("identity {}", identity.name),
                    source,
                })?;
                info!(identity = %identity.name, fingerprint = %made.fingerprint(), "certificate");
                Ok(made)
            })
            .collect::<Result<_, QuicError>>()?;
        let mut quic = Self {
            plan,
            identities,
            servers: HashMap::new(),
        };
        for shard in &plan.shards {
            let transport = transport(plan, shard.port)?;
            for listener in &shard.listeners {
                if !quic.servers.contains_key(listener.name.as_str()) {
                    let server = quic.server(listener, &transport)?;
                    quic.servers.insert(&listener.name, server);
                }
            }
        }
        Ok(quic)
    }

    /// The configuration of a shard, and its clients.
    pub(super) fn shard(
        &self,
        index: usize,
        counters: Arc<ShardCounters>,
        shared: &mut Shared,
    ) -> Result<(ShardConfig, Vec<NamedClient>), QuicError> {
        let shard = &self.plan.shards[index];
        let transport = transport(self.plan, shard.port)?;
        let listeners = shard
            .listeners
            .iter()
            .map(|listener| self.listener(listener))
            .collect::<Result<_, _>>()?;
        let mut named = Vec::new();
        let mut clients = Vec::new();
        for client in &shard.clients {
            let (application, handle) = self.client(client, &transport)?;
            clients.push(application);
            named.push(NamedClient {
                name: client.name.clone(),
                shard: index,
                handle,
            });
        }
        let limits = &self.plan.limits;
        let config = ShardConfig {
            seed: None,
            limits: ShardLimits {
                connections: limits.connections as usize,
                incoming: limits.incoming as usize,
                retry_above: limits.retry_above as usize,
                incoming_bytes: limits.incoming_bytes,
                handshakes_per_prefix: limits.handshakes_per_prefix,
                strangers: limits.strangers,
                stateless: limits.stateless,
                streams: settings(&self.plan.transport).streams(),
                turn_budget: limits.turn_budget,
                responses: limits.responses as usize,
            },
            udp_payload_max: self.plan.ports[shard.port].udp_payload_max,
            listeners,
            client_ports: shared.client_ports(shard),
            clients,
            agents: Vec::new(),
            steering: shared.take_steering(index),
            reset_key: shared.reset_key(&self.plan.ports[shard.port]),
            paced_by_device: false,
            drain_timeout: self.plan.run.drain_timeout,
            counters,
        };
        Ok((config, named))
    }

    /// What a listener is made of, the same on all of its shards.
    fn server(
        &self,
        plan: &ListenerPlan,
        transport: &Arc<TransportConfig>,
    ) -> Result<ServerConfig, QuicError> {
        let tls = |source| QuicError::Tls {
            what: format!("listener {}", plan.name),
            source,
        };
        let client_auth = match &plan.client_auth {
            ClientAuthPlan::None => ClientAuth::None,
            ClientAuthPlan::Optional(files) => {
                ClientAuth::Optional(Anchors::from_files(files).map_err(tls)?)
            }
            ClientAuthPlan::Required(files) => {
                ClientAuth::Required(Anchors::from_files(files).map_err(tls)?)
            }
        };
        let alpns = plan
            .services
            .iter()
            .map(|service| service.alpn().into())
            .collect();
        let mut server = server_config(ServerTls {
            identity: &self.identities[plan.identity],
            alpns,
            client_auth,
            early_data: plan.services.iter().any(ServicePlan::early_data),
        })
        .map_err(tls)?;
        server.transport_config(Arc::clone(transport));
        Ok(server)
    }

    /// A listener on one of its shards.
    fn listener(&self, plan: &ListenerPlan) -> Result<ListenerConfig, QuicError> {
        let services = plan
            .services
            .iter()
            .map(|service| {
                Ok(ServiceConfig {
                    alpn: service.alpn().into(),
                    early_data: service.early_data(),
                    application: self.service(plan, service)?,
                })
            })
            .collect::<Result<_, QuicError>>()?;
        Ok(ListenerConfig {
            udp_port: plan.udp_port,
            streams: None,
            server: self.servers[plan.name.as_str()].clone(),
            services,
        })
    }

    fn service(
        &self,
        listener: &ListenerPlan,
        service: &ServicePlan,
    ) -> Result<NewApplication, QuicError> {
        let counters = Arc::new(ServiceCounters::default());
        Ok(match service {
            ServicePlan::Perf { .. } => from_fn(|| PerfService::new(counters)),
            ServicePlan::Echo { .. } => from_fn(|| EchoService::new(counters)),
            ServicePlan::HqInterop { root, .. } => {
                let mut server = HqServer::new(root);
                server.open_files_max = self.plan.limits.open_files as usize;
                let service = server
                    .service(counters)
                    .map_err(|source| QuicError::Files {
                        listener: listener.name.clone(),
                        source,
                    })?;
                from_fn(|| service)
            }
        })
    }

    fn client(
        &self,
        plan: &ClientPlan,
        transport: &Arc<TransportConfig>,
    ) -> Result<(NewApplication, ClientHandle), QuicError> {
        let tls = |source| QuicError::Tls {
            what: format!("client {}", plan.name),
            source,
        };
        let trust = match &plan.trust {
            TrustPlan::Anchors(files) => Trust::Anchors(Anchors::from_files(files).map_err(tls)?),
            TrustPlan::Identity(index) => {
                Trust::Certificate(self.identities[*index].chain()[0].clone())
            }
            TrustPlan::Fingerprint(sha256) => Trust::Fingerprint(Fingerprint(*sha256)),
            TrustPlan::Insecure => Trust::Insecure,
        };
        let mut config = client_config(ClientTls {
            trust: &trust,
            identity: plan.identity.map(|index| &self.identities[index]),
            alpns: vec![plan.load.alpn().into()],
            early_data: plan.early_data,
        })
        .map_err(tls)?;
        config.transport_config(Arc::clone(transport));
        let target = ConnectTarget {
            remote: plan.remote,
            streams: None,
            server_name: plan.server_name.clone(),
            config,
            early_data: plan.early_data,
        };
        let connections = plan.connections as usize;
        let refused = |source| QuicError::Client {
            client: plan.name.clone(),
            source,
        };
        let rate = |rate: Option<u64>| rate.and_then(|rate| Rate::per_second(rate as f64));
        Ok(match &plan.load {
            Load::Perf(load) => {
                let client = PerfClient {
                    target,
                    connections,
                    streams: load.streams as usize,
                    upload: load.upload,
                    download: load.download,
                    repeat: load.repeat,
                    requests: load.requests,
                    rate: rate(load.rate),
                    duration: load.duration,
                };
                made(client.application())
            }
            Load::Hq(load) => {
                let client = HqClient {
                    target,
                    connections,
                    streams: load.streams as usize,
                    paths: load.paths.clone(),
                    output: load.output.clone(),
                };
                let plan = self.plan.clone();
                let start = ThreadStart::new(move || super::leave_lcores(&plan));
                made(client.application(start).map_err(refused)?)
            }
            Load::Echo(load) => {
                let client = EchoClient {
                    target,
                    connections,
                    streams: load.streams as usize,
                    size: usize::try_from(load.size).unwrap_or(usize::MAX),
                    datagrams: load.datagrams,
                    rate: rate(load.rate),
                    requests: load.requests,
                    duration: load.duration,
                    datagram_timeout: DATAGRAM_TIMEOUT,
                };
                made(client.application().map_err(refused)?)
            }
        })
    }
}

fn made<A: Application + Send + 'static>(
    (application, handle): (A, ClientHandle),
) -> (NewApplication, ClientHandle) {
    (from_fn(|| application), handle)
}

/// The plan's transport settings for a port.
pub(super) fn transport(plan: &Plan, port: usize) -> Result<Arc<TransportConfig>, TransportError> {
    settings(&plan.transport).build(plan.ports[port].udp_payload_max)
}

fn settings(plan: &TransportPlan) -> TransportSettings {
    TransportSettings {
        congestion: match plan.congestion {
            plan::Congestion::Cubic => Congestion::Cubic,
            plan::Congestion::NewReno => Congestion::NewReno,
            plan::Congestion::Bbr => Congestion::Bbr,
        },
        receive_window: plan.receive_window,
        stream_receive_window: plan.stream_receive_window,
        send_window: plan.send_window,
        initial_mtu: plan.initial_mtu,
        mtu_discovery: plan.mtu_discovery,
        ack_frequency: plan.ack_frequency.map(|ack| AckFrequency {
            threshold: ack.threshold,
            max_delay: ack.max_delay,
        }),
        keep_alive: plan.keep_alive,
        idle_timeout: plan.idle_timeout,
        bidi_streams: plan.bidi_streams,
        uni_streams: plan.uni_streams,
        datagram_buffer: usize::try_from(plan.datagram_buffer).unwrap_or(usize::MAX),
    }
}
