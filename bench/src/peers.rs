//! The servers beside which we are measured, from Debian's packages, each in a folder of its own.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Built by `cargo build --release --manifest-path bench/rumqttd/Cargo.toml --target-dir bench/target`.
const RUMQTTD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/bench-rumqttd");

/// A running peer. Dropping it kills it and removes its folder.
pub struct Peer {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    _folder: TempDir,
}

impl Peer {
    /// Redis that flushes its log before each answer, grouping what comes in together.
    ///
    /// # Errors
    /// `redis-server` is not installed, or didn't start.
    pub fn redis(environment: &[(&str, &str)]) -> Result<Self> {
        Self::start("redis-server", environment, |folder, address| {
            let config = format!(
                "bind 127.0.0.1\nport {}\ndir {}\nappendonly yes\nappendfsync always\nsave \"\"\n\
                 auto-aof-rewrite-percentage 0\ndaemonize no\nlogfile {}/log\n",
                address.port(),
                folder.display(),
                folder.display()
            );
            Ok(vec![write(folder, "redis.conf", &config)?])
        })
    }

    /// nginx with `server` inside its `server {}`.
    ///
    /// # Errors
    /// nginx is not installed, or didn't start.
    pub fn nginx(workers: usize, server: &str) -> Result<Self> {
        Self::start("nginx", &[], |folder, address| {
            let config = format!(
                "daemon off;\nmaster_process on;\nworker_processes {workers};\nworker_rlimit_nofile 20000;\n\
                 pid {0}/pid;\nerror_log {0}/log;\nload_module /usr/lib/nginx/modules/ngx_nchan_module.so;\n\
                 events {{ worker_connections 15000; }}\nhttp {{\naccess_log off; keepalive_requests 1000000000;\n\
                 client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;\n\
                 uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;\n\
                 server {{ listen {1} backlog=4096;\n{server}\n}}\n}}\n",
                folder.display(),
                address
            );
            let path = write(folder, "nginx.conf", &config)?;
            Ok(vec![
                "-p".into(),
                folder.display().to_string(),
                "-c".into(),
                path,
            ])
        })
    }

    /// mosquitto, with everything in memory and so many messages in flight to each client.
    ///
    /// # Errors
    /// `mosquitto` is not installed, or didn't start.
    pub fn mosquitto(in_flight: u64) -> Result<Self> {
        Self::start("mosquitto", &[], |folder, address| {
            let config = format!(
                "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
                 max_inflight_messages {in_flight}\nmax_queued_messages 0\nsys_interval 0\n\
                 log_dest none\nmax_keepalive 65535\n",
                address.port()
            );
            Ok(vec!["-c".into(), write(folder, "mosquitto.conf", &config)?])
        })
    }

    /// rumqttd without TLS, with so many messages in flight to each client.
    ///
    /// # Errors
    /// `bench/rumqttd` is not built, or didn't start.
    pub fn rumqttd(in_flight: u64) -> Result<Self> {
        Self::start(RUMQTTD, &[], |folder, address| {
            // Above any number of records that one read brings: at the default a reader gets no more of them.
            let config = format!(
                "id = 0\n[router]\nid = 0\nmax_connections = 20000\nmax_outgoing_packet_count = 2000000\n\
                 max_segment_size = 104857600\nmax_segment_count = 10\n[v4.1]\nname = \"v4-1\"\n\
                 listen = \"{address}\"\nnext_connection_delay_ms = 0\n[v4.1.connections]\n\
                 connection_timeout_ms = 60000\nmax_payload_size = 20480\nmax_inflight_count = {in_flight}\n\
                 dynamic_filters = true\n"
            );
            Ok(vec![write(folder, "rumqttd.toml", &config)?])
        })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn start(
        program: &str,
        environment: &[(&str, &str)],
        arguments: impl FnOnce(&Path, SocketAddr) -> Result<Vec<String>>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("sapwood-bench-")
            .tempdir()?;
        let address = free_address()?;
        let mut child = Command::new(program)
            .args(arguments(folder.path(), address)?)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("stderr"))?)
            .spawn()
            .with_context(|| {
                format!("{program} is not there; README.md says where it comes from")
            })?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                drop(child.kill());
                drop(child.wait());
                let log = fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
                bail!("{program} didn't start: {log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self {
            child,
            address,
            _folder: folder,
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx's master ends its workers at SIGTERM only.
        let ended = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        if !ended.is_ok_and(|status| status.success()) {
            drop(self.child.kill());
        }
        drop(self.child.wait());
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<String> {
    let path = folder.join(name);
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}
