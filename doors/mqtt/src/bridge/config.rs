//! `[[mqtt.bridge]]` in the configuration.

use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

use super::route::Route;
use crate::client::Address;
use crate::codec::{Qos, Text};

/// `[[mqtt.bridge]]` in sapwood.toml: a connection out to another broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeConfig {
    /// Its name: letters, digits, `-`, `_` and `.`. By it logs and metrics name the bridge, and it is found again after a restart.
    pub name: String,
    /// The other broker: `mqtt://HOST:PORT`, or `HOST:PORT`; port 1883 unless said.
    pub address: String,
    /// What is bridged: a list of tables, each with `filter`, `direction`, `qos`, `local_prefix` and `remote_prefix`.
    pub topics: Vec<BridgeTopic>,
    /// The database whose topics are bridged.
    pub database: String,
    /// The client id at the other broker, where no other client may have it. Empty: this machine's name, a dot, and the bridge's name.
    pub client_id: String,
    /// The user name at the other broker. Empty: none.
    pub username: String,
    /// The password there; never shown.
    pub password: Secret,
    /// A file with the password, without the end of its line. It is read at the start.
    pub password_file: PathBuf,
    /// What is spoken: `"5"`, and 3.1.1 where the other broker knows no better, or `"3.1.1"`.
    pub version: BridgeVersion,
    /// A sign of life is asked for after so many seconds; the connection is given up after as many without one. 0: never.
    pub keep_alive_s: u16,
    /// Throw away what waits on both sides, with every connection.
    pub clean_start: bool,
    /// How long each side keeps for the other what it can't deliver, in seconds.
    pub session_expiry_s: u32,
    /// The largest packet that is sent to the other broker, in bytes; what is larger is dropped and counted. 0: what it says itself.
    pub packet_bytes_max: u32,
    /// How long to wait before the second attempt to connect, in seconds. Each wait is twice the last one, less a random part.
    pub reconnect_s_min: u64,
    /// The longest wait between two attempts, in seconds.
    pub reconnect_s_max: u64,
}

/// One of [`BridgeConfig::topics`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeTopic {
    /// Which topics, with `+` and `#`. Behind the prefix of either side it is that side's filter. Empty: the prefixes are the one topic
    /// on either side.
    pub filter: String,
    /// `"in"` takes from the other broker, `"out"` gives to it, `"both"` does both.
    pub direction: Direction,
    /// The highest QoS.
    pub qos: u8,
    /// What the topics begin with here; it is taken off on the way out.
    pub local_prefix: String,
    /// What they begin with there; it is taken off on the way in.
    pub remote_prefix: String,
}

/// Which way messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the other broker.
    In,
    /// To the other broker.
    Out,
    /// Both.
    #[default]
    Both,
}

/// What is spoken to the other broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum BridgeVersion {
    /// 5.0, or 3.1.1 if the other broker does not know it.
    #[default]
    #[serde(rename = "5")]
    V5,
    /// 3.1.1
    #[serde(rename = "3.1.1")]
    V3,
}

/// Text that is not shown.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    const SHOWN: &'static str = "***";

    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { Self::SHOWN }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(f)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            address: String::new(),
            topics: Vec::new(),
            database: "default".to_owned(),
            client_id: String::new(),
            username: String::new(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            version: BridgeVersion::V5,
            keep_alive_s: 60,
            clean_start: false,
            session_expiry_s: 7 * 24 * 60 * 60,
            packet_bytes_max: 0,
            reconnect_s_min: 1,
            reconnect_s_max: 60,
        }
    }
}

impl Default for BridgeTopic {
    fn default() -> Self {
        Self {
            filter: String::new(),
            direction: Direction::Both,
            qos: 1,
            local_prefix: String::new(),
            remote_prefix: String::new(),
        }
    }
}

/// What is wrong with a bridge: the key, of the topic of that number if it is a topic's, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The key.
    pub key: &'static str,
    /// Which of the topics has it.
    pub topic: Option<usize>,
    /// What was expected, and what was there.
    pub message: String,
}

impl Wrong {
    fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self {
            key,
            topic: None,
            message: message.into(),
        }
    }
}

impl BridgeConfig {
    /// Looks for what no type can say.
    ///
    /// # Errors
    /// For the first key that is wrong, or contradicts another one.
    pub fn check(&self, paths: &sapwood_tree::Limits) -> Result<(), Wrong> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(fits) {
            let name = &self.name;
            return Err(Wrong::new(
                "name",
                format!("expected a name of 1 to 64 letters, digits, -, _ and ., got {name:?}"),
            ));
        }
        if let Err(error) = self.address.parse::<Address>() {
            return Err(Wrong::new("address", error.to_string()));
        }
        self.check_login()?;
        if self.packet_bytes_max != 0 && self.packet_bytes_max < 64 {
            let got = self.packet_bytes_max;
            return Err(Wrong::new(
                "packet_bytes_max",
                format!("expected 64 or more, or 0 for what the other broker says, got {got}"),
            ));
        }
        if self.reconnect_s_min == 0 || self.reconnect_s_max < self.reconnect_s_min {
            let (min, max) = (self.reconnect_s_min, self.reconnect_s_max);
            return Err(Wrong::new(
                "reconnect_s_min",
                format!("expected 1 or more, and at most reconnect_s_max ({max}), got {min}"),
            ));
        }
        if !self.clean_start && self.session_expiry_s == 0 {
            let message = "expected 1 or more; to keep nothing say clean_start = true";
            return Err(Wrong::new("session_expiry_s", message));
        }
        if self.topics.is_empty() {
            let message = "expected at least one, such as topics = [{ filter = \"#\" }]";
            return Err(Wrong::new("topics", message));
        }
        for (at, topic) in self.topics.iter().enumerate() {
            topic.route(paths).map_err(|wrong| Wrong {
                topic: Some(at),
                ..wrong
            })?;
        }
        Ok(())
    }

    fn check_login(&self) -> Result<(), Wrong> {
        let has_file = !self.password_file.as_os_str().is_empty();
        if has_file && !self.password.0.is_empty() {
            let message = "there is a password, too: say one of them";
            return Err(Wrong::new("password_file", message));
        }
        for (key, text) in [
            ("client_id", &self.client_id),
            ("username", &self.username),
            ("password", &self.password.0),
        ] {
            if let Err(error) = Text::new(text) {
                return Err(Wrong::new(key, format!("{error} is not possible in MQTT")));
            }
        }
        if self.username.is_empty() && (has_file || !self.password.0.is_empty()) {
            let message = "expected one beside the password";
            return Err(Wrong::new("username", message));
        }
        Ok(())
    }

    /// The password, from wherever it is; none if there is none.
    ///
    /// # Errors
    /// If its file can't be read.
    pub(super) fn password(&self) -> std::io::Result<Option<Bytes>> {
        if self.password_file.as_os_str().is_empty() {
            let text = &self.password.0;
            return Ok((!text.is_empty()).then(|| Bytes::copy_from_slice(text.as_bytes())));
        }
        let mut bytes = std::fs::read(&self.password_file)?;
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        Ok(Some(bytes.into()))
    }
}

impl BridgeTopic {
    /// How topics are mapped by it.
    ///
    /// # Errors
    /// If it maps none.
    pub(super) fn route(&self, paths: &sapwood_tree::Limits) -> Result<Route, Wrong> {
        let Some(qos) = Qos::from_u8(self.qos) else {
            let got = self.qos;
            return Err(Wrong::new("qos", format!("expected 0, 1 or 2, got {got}")));
        };
        for (key, prefix) in [
            ("local_prefix", &self.local_prefix),
            ("remote_prefix", &self.remote_prefix),
        ] {
            if prefix.contains(['+', '#']) {
                return Err(Wrong::new(
                    key,
                    format!("expected no + or #, as it is the beginning of topics, got {prefix:?}"),
                ));
            }
            if self.filter.is_empty() && prefix.is_empty() {
                return Err(Wrong::new(
                    key,
                    "expected the one topic that is meant, as there is no filter",
                ));
            }
        }
        Route::new(self, qos, paths)
    }
}
