//! What the programs of other stacks are told on their command lines, and what they answer: the contract between the
//! table and `bench/peers`.
//!
//! A server prints one line when it listens, and ends when its standard input does. A client does its work, prints its
//! [`Figures`](crate::scale::figures::Figures) as one line, and ends. Both speak `perf`: eight bytes, big-endian, say how
//! many bytes of answer are wanted; unreliable datagrams come back as they are.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::api::recorder::{Kind, Terms};

/// The file of the certificate, PEM, in the folder of the identity.
pub const CERTIFICATE: &str = "certificate.pem";
/// The file of its key, PEM.
pub const KEY: &str = "key.pem";
/// Bytes of a request that has no more than its header.
pub const HEADER: usize = 8;
/// What answers are made of.
pub static ZEROES: [u8; 256 * 1024] = [0; 256 * 1024];
/// How long it may take until datagrams come back. Those that have not are lost.
pub const PATIENCE: Duration = Duration::from_millis(100);
/// The share of a path's MTU that datagrams have to reach: stacks search for it in steps, and end a little below.
pub const MTU_SHARE_MIN: f64 = 0.99;
/// What is left out at the start of a load, at most: congestion windows, caches.
const WARM_UP_MAX: Duration = Duration::from_millis(500);

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Downloads, one after the other on each connection.
    Bulk,
    /// Small requests.
    Requests,
    /// Connections that are made, used for one request without an answer, and closed.
    Handshakes,
    /// The same with resumed TLS sessions.
    Resumed,
    /// Unreliable datagrams that come back.
    Datagrams,
    /// Connections at rest.
    Idle,
}

/// What both ends are told.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PathSpec {
    /// What the client will do.
    #[arg(long)]
    pub work: Work,
    /// Folder of the server's certificate and key.
    #[arg(long)]
    pub identity: PathBuf,
    /// UDP payload of a full datagram, bytes.
    #[arg(long)]
    pub udp_payload: u16,
    /// Send and receive each datagram by itself, without GSO and GRO.
    #[arg(long)]
    pub no_segmentation: bool,
    /// Poll the socket without ever sleeping.
    #[arg(long)]
    pub busy: bool,
    /// The CPU to run on.
    #[arg(long)]
    pub cpu: usize,
}

/// What a server is told.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ServerSpec {
    /// Where to listen; with port 0, on a free one.
    #[arg(long)]
    pub listen: SocketAddr,
    /// What both ends are told.
    #[command(flatten)]
    pub path: PathSpec,
}

/// What a server says when it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Where.
    pub udp_port: u16,
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ClientSpec {
    /// The server.
    #[arg(long)]
    pub connect: SocketAddr,
    /// Its process, whose memory and processor time count as well as the client's.
    #[arg(long)]
    pub server_pid: u32,
    /// What both ends are told.
    #[command(flatten)]
    pub path: PathSpec,
    /// The load.
    #[command(flatten)]
    pub load: Load,
}

/// How much a client does.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
pub struct Load {
    /// Connections; with handshakes, of no meaning.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Requests, datagrams or handshakes under way at a time, over all connections.
    #[arg(long, default_value_t = 1)]
    pub outstanding: usize,
    /// Bytes of each answer, or of each datagram.
    #[arg(long, default_value_t = 0)]
    pub answer: u64,
    /// Time that is measured, seconds.
    #[arg(long)]
    pub seconds: f64,
}

impl Load {
    /// Time that is measured.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(0.01, 3600.0))
    }

    /// What is left out before.
    pub fn warm_up(&self) -> Duration {
        (self.length() / 3).min(WARM_UP_MAX)
    }

    /// What a client's recorder has to know.
    pub fn terms(&self, work: Work) -> Terms {
        Terms {
            answer: self.answer,
            outstanding: self.outstanding,
            figures: match work {
                Work::Bulk => Kind::Bulk,
                _ => Kind::Requests,
            },
            warm_up: self.warm_up(),
            length: self.length(),
        }
    }
}

impl PathSpec {
    /// The file of the certificate.
    pub fn certificate(&self) -> PathBuf {
        self.identity.join(CERTIFICATE)
    }

    /// The file of its key.
    pub fn key(&self) -> PathBuf {
        self.identity.join(KEY)
    }

    fn arguments(&self) -> Vec<String> {
        let work = self.work.to_possible_value();
        let work = work.map_or_else(String::new, |work| work.get_name().to_owned());
        let mut arguments = vec![
            format!("--work={work}"),
            format!("--identity={}", Path::display(&self.identity)),
            format!("--udp-payload={}", self.udp_payload),
            format!("--cpu={}", self.cpu),
        ];
        for (flag, set) in [
            ("--no-segmentation", self.no_segmentation),
            ("--busy", self.busy),
        ] {
            if set {
                arguments.push(flag.to_owned());
            }
        }
        arguments
    }
}

impl ServerSpec {
    /// Its command line, for `stack`.
    pub fn arguments(&self, stack: &str) -> Vec<String> {
        let mut arguments = vec!["server".to_owned(), stack.to_owned()];
        arguments.push(format!("--listen={}", self.listen));
        arguments.extend(self.path.arguments());
        arguments
    }
}

impl ClientSpec {
    /// Its command line, for `stack`.
    pub fn arguments(&self, stack: &str) -> Vec<String> {
        let Load {
            connections,
            outstanding,
            answer,
            seconds,
        } = self.load;
        let mut arguments = vec![
            "client".to_owned(),
            stack.to_owned(),
            format!("--connect={}", self.connect),
            format!("--server-pid={}", self.server_pid),
            format!("--connections={connections}"),
            format!("--outstanding={outstanding}"),
            format!("--answer={answer}"),
            format!("--seconds={seconds}"),
        ];
        arguments.extend(self.path.arguments());
        arguments
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser, Subcommand};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        role: Role,
    }

    #[derive(Debug, PartialEq, Subcommand)]
    enum Role {
        Server {
            stack: String,
            #[command(flatten)]
            spec: ServerSpec,
        },
        Client {
            stack: String,
            #[command(flatten)]
            spec: ClientSpec,
        },
    }

    fn parsed(arguments: Vec<String>) -> Role {
        Cli::parse_from(std::iter::once("peer".to_owned()).chain(arguments)).role
    }

    #[test]
    fn both_ends_survive_their_command_lines() {
        for &work in Work::value_variants() {
            let path = PathSpec {
                work,
                identity: "/some where".into(),
                udp_payload: 1452,
                no_segmentation: work == Work::Bulk,
                busy: work == Work::Requests,
                cpu: 1,
            };
            let server = ServerSpec {
                listen: "[::1]:0".parse().unwrap(),
                path: path.clone(),
            };
            let (stack, spec) = ("quiche".to_owned(), server.clone());
            assert_eq!(
                parsed(server.arguments(&stack)),
                Role::Server { stack, spec }
            );
            let client = ClientSpec {
                connect: "[fd00::1]:4433".parse().unwrap(),
                server_pid: 77,
                path,
                load: Load {
                    connections: 2,
                    outstanding: 3,
                    answer: 4,
                    seconds: 1.5,
                },
            };
            let (stack, spec) = ("s2n-quic".to_owned(), client.clone());
            assert_eq!(
                parsed(client.arguments(&stack)),
                Role::Client { stack, spec }
            );
        }
    }
}
