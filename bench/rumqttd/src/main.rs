//! rumqttd with the configuration file that the first argument names.

use rumqttd::{Broker, Config};

fn main() {
    let path = std::env::args().nth(1).expect("a configuration file");
    let text = std::fs::read_to_string(&path).expect("the configuration file");
    let config: Config = toml::from_str(&text).expect("a configuration");
    Broker::new(config).start().expect("a broker");
}
