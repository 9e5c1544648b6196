use super::*;

fn from_file(text: &str) -> Result<Loaded, String> {
    Loaded::from_text(text).map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    from_file(text).expect_err("must be refused")
}

fn loaded(set: &[&str], environment: &[(&str, &str)]) -> Result<Loaded, String> {
    let sources = Sources {
        set: set.iter().map(|text| (*text).to_owned()).collect(),
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Sources::default()
    };
    Loaded::load(&sources).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_is_the_defaults() {
    let loaded = from_file("").unwrap();
    assert_eq!(loaded.config.log.filter, "info");
    assert_eq!(loaded.origin(&["log", "filter"]), Origin::Default);
}

#[test]
fn a_key_that_nobody_knows_names_the_nearest_one_with_file_and_line() {
    assert_eq!(
        refused("[log]\nformat = \"json\"\nfiltre = \"debug\"\n"),
        "sapwood.toml:3: unknown key log.filtre; did you mean log.filter?"
    );
    assert_eq!(
        refused("[lgo]\n"),
        "sapwood.toml:1: unknown key lgo; did you mean log?"
    );
}

#[test]
fn a_key_like_no_other_lists_what_is_known() {
    assert_eq!(
        refused("[log]\nzzz = 1\n"),
        "sapwood.toml:2: unknown key log.zzz; known here: filter, format"
    );
}

#[test]
fn a_wrong_type_says_what_is_expected() {
    assert_eq!(
        refused("[store]\ncache_bytes = \"much\"\n"),
        "sapwood.toml:2: store.cache_bytes: expected a whole number, 0 or more, got \"much\""
    );
    assert_eq!(
        refused("[store]\ncache_bytes = -1\n"),
        "sapwood.toml:2: store.cache_bytes: expected a whole number, 0 or more, got -1"
    );
    assert_eq!(
        refused("[log]\nformat = \"xml\"\n"),
        "sapwood.toml:2: log.format: expected one of \"auto\", \"human\", \"json\", got \"xml\""
    );
    assert_eq!(
        refused("[log]\nfilter = 1\n"),
        "sapwood.toml:2: log.filter: expected a text in quotes, got 1"
    );
    assert_eq!(
        refused("log = 1\n"),
        "sapwood.toml:1: log: expected a table, got 1"
    );
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    assert!(refused("[log]\nfilter = \n").starts_with("sapwood.toml:2: "));
    assert!(refused("[log\n").starts_with("sapwood.toml:1: "));
}

#[test]
fn set_wins_over_the_environment_and_remembers_where_it_was_said() {
    let loaded = loaded(
        &["log.filter=warn"],
        &[
            ("SAPWOOD_LOG_FILTER", "debug"),
            ("SAPWOOD_LOG_FORMAT", "json"),
        ],
    )
    .unwrap();
    assert_eq!(loaded.config.log.filter, "warn");
    assert_eq!(loaded.config.log.format, LogFormat::Json);
    assert_eq!(
        loaded.origin(&["log", "filter"]).to_string(),
        "--set log.filter=warn"
    );
    assert_eq!(
        loaded.origin(&["log", "format"]).to_string(),
        "environment SAPWOOD_LOG_FORMAT"
    );
}

#[test]
fn a_value_without_a_type_takes_the_type_that_its_key_has() {
    let loaded = loaded(
        &[
            "store.cache_bytes=1_000",
            "log.filter=true",
            "store.data=\"a b\"",
        ],
        &[],
    )
    .unwrap();
    assert_eq!(loaded.config.store.cache_bytes, 1000);
    assert_eq!(loaded.config.log.filter, "true");
    assert_eq!(loaded.config.store.data, Path::new("a b"));
}

#[test]
fn a_slip_in_the_environment_or_in_set_is_refused_by_name() {
    assert_eq!(
        loaded(&[], &[("SAPWOOD_LOG_FILTR", "x")]).unwrap_err(),
        "environment SAPWOOD_LOG_FILTR: unknown key SAPWOOD_LOG_FILTR; did you mean SAPWOOD_LOG_FILTER?"
    );
    assert_eq!(
        loaded(&["log.filtr=x"], &[]).unwrap_err(),
        "--set log.filtr=x: unknown key log.filtr; did you mean log.filter?"
    );
    assert_eq!(
        loaded(&["log.filter"], &[]).unwrap_err(),
        "--set log.filter: expected key=value"
    );
    assert_eq!(
        loaded(&["store.cache_bytes=lots"], &[]).unwrap_err(),
        "--set store.cache_bytes=lots: store.cache_bytes: expected a whole number, 0 or more, got \"lots\""
    );
}

#[test]
fn a_reserve_that_could_not_hold_what_must_be_written_is_refused() {
    assert_eq!(
        refused("[store]\nreserve_bytes = 5\nmemtable_bytes = 7\n"),
        "sapwood.toml:2: store.reserve_bytes: expected at least store.memtable_bytes (7), as that must fit on a full disk"
    );
}

#[test]
fn a_limit_that_would_let_nothing_through_is_refused() {
    assert_eq!(
        refused("[limits]\ndepth_max = 0\n"),
        "sapwood.toml:2: limits.depth_max: expected 1 or more, got 0"
    );
    assert_eq!(
        refused("[http]\nbody_bytes_max = 0\n"),
        "sapwood.toml:2: http.body_bytes_max: expected 1 or more, got 0"
    );
    assert_eq!(
        refused("[http]\nhead_bytes_max = 100\n"),
        "sapwood.toml:2: http.head_bytes_max: expected 1024 or more, got 100"
    );
    from_file("[limits]\nat_end_max = 0\n[http]\nconnections_max = 0\n").unwrap();
}

#[test]
fn a_limit_that_the_program_could_not_keep_is_refused() {
    assert_eq!(
        refused("[limits]\nparse_depth_max = 100000\n"),
        "sapwood.toml:2: limits.parse_depth_max: expected at most 120, got 100000"
    );
    for (text, key) in [
        ("[limits]\ndepth_max = 1000\n", "limits.depth_max"),
        (
            "[limits]\nsegment_bytes_max = 50000\n",
            "limits.segment_bytes_max",
        ),
    ] {
        let refused = refused(text);
        assert!(
            refused.starts_with(&format!("sapwood.toml:2: {key}: expected paths of at most")),
            "{refused}"
        );
    }
    from_file(
        "[limits]\ndepth_max = 256\nsegment_bytes_max = 200\nwrites_waiting_max = 18000000000\n",
    )
    .unwrap();
}

#[test]
fn a_resource_that_is_no_path_of_names_is_refused() {
    for odd in [
        "x/{id}/{", "x/{}", "x/a{id}", "x/{id}b", "x/}", "x//y", "x/{i d}", "",
    ] {
        let refused = refused(&format!("[databases.default.resources.\"{odd}\"]\n"));
        assert!(
            refused.contains("expected a path like sensors/{id}"),
            "{odd}: {refused}"
        );
    }
    for fine in ["x", "/x/{id}", "a b/{c_1}/d"] {
        from_file(&format!("[databases.default.resources.\"{fine}\"]\n")).unwrap();
    }
}

#[test]
fn an_empty_table_declares_a_resource() {
    let loaded = from_file("[databases.default.resources.\"sensors/{id}\"]\n").unwrap();
    assert!(
        loaded.config.databases["default"]
            .resources
            .contains_key("sensors/{id}")
    );
    assert!(
        loaded
            .report()
            .contains("databases.default.resources.\"sensors/{id}\" = {}  "),
        "{}",
        loaded.report()
    );
}

#[test]
fn what_a_resource_can_not_say_yet_is_refused_as_such() {
    let text = "[databases.default.resources.\"sensors/{id}\"]\nexpires = 5\n";
    assert_eq!(
        refused(text),
        "sapwood.toml:2: databases.default.resources.\"sensors/{id}\".expires: planned, but not there yet: take the line out"
    );
}

#[test]
fn a_resource_can_be_declared_by_set() {
    let loaded = loaded(&["databases.default.resources.\"a=b/{id}\"={}"], &[]).unwrap();
    assert!(
        loaded.config.databases["default"]
            .resources
            .contains_key("a=b/{id}")
    );
}

#[test]
fn the_report_has_every_key_with_its_origin() {
    let loaded = loaded(&["log.filter=warn"], &[]).unwrap();
    let report = loaded.report();
    for key in report::keys() {
        assert!(report.contains(&format!("{} = ", key.join("."))), "{key:?}");
    }
    assert!(
        report
            .lines()
            .any(|line| line.starts_with("log.filter = \"warn\"")
                && line.ends_with("# --set log.filter=warn"))
    );
}

#[test]
fn no_two_keys_share_a_variable_of_the_environment() {
    let keys = report::keys();
    let names: std::collections::BTreeSet<_> = keys.iter().map(|path| variable(path)).collect();
    assert_eq!(names.len(), keys.len());
}

#[test]
fn rules_of_mqtt_are_tables_in_a_list() {
    let text = "[[mqtt.accept]]\nformat = \"cbor\"\nfilter = \"a/+\"\n[[mqtt.accept]]\nformat = \"json\"\n";
    let report = from_file(text).unwrap().report();
    let line = "mqtt.accept = [{ filter = \"a/+\", format = \"cbor\" }, { format = \"json\" }]";
    assert!(report.contains(line), "{report}");
    for (rule, at) in [
        ("format = \"xml\"\n", "format"),
        ("format = \"json\"\nfilter = \"a/#/b\"\n", "filter"),
        ("format = \"json\"\nfilter = \"$share/n/a\"\n", "filter"),
        ("filter = \"a\"\n", "format"),
        ("format = \"json\"\ncleint = \"a\"\n", "client"),
    ] {
        let refused = refused(&format!("[[mqtt.accept]]\n{rule}"));
        assert!(
            refused.contains("mqtt.accept") && refused.contains(at),
            "{refused}"
        );
    }
}

const BRIDGE: &str = "[[mqtt.bridge]]\nname = \"b\"\naddress = \"broker\"\n";

#[test]
fn a_bridge_is_a_table_of_its_own() {
    let text = format!(
        "{BRIDGE}topics = [{{ filter = \"#\", direction = \"in\", qos = 2, local_prefix = \"a/\" }}]\n\
         username = \"me\"\npassword = \"hidden\"\nversion = \"3.1.1\"\n"
    );
    let loaded = from_file(&text).unwrap();
    let bridge = &loaded.config.mqtt.bridge[0];
    assert_eq!((&*bridge.name, bridge.topics[0].qos), ("b", 2));
    for shown in [loaded.report(), format!("{:?}", loaded.config)] {
        assert!(
            shown.contains("***") && !shown.contains("hidden"),
            "{shown}"
        );
    }
}

#[test]
fn a_bridge_that_could_not_work_is_refused_with_what_to_write() {
    let topics = "topics = [{ filter = \"#\" }]\n";
    for (text, message) in [
        (
            "[[mqtt.bridge]]\nname = \"b\"\n".to_owned(),
            "sapwood.toml:1: mqtt.bridge.address: expected mqtt://HOST:PORT or HOST:PORT, got \"\"",
        ),
        (
            BRIDGE.to_owned(),
            "sapwood.toml:1: mqtt.bridge.topics: expected at least one, such as topics = [{ filter = \"#\" }]",
        ),
        (
            format!("{BRIDGE}topics = [\n{{ filter = \"#\" }},\n{{ filter = \"a#\" }},\n]\n"),
            "sapwood.toml:6: mqtt.bridge.topics.filter: expected + and # to stand alone between slashes, # at the end, \
             also behind the prefix; got \"a#\"",
        ),
        (
            format!("{BRIDGE}{topics}{BRIDGE}{topics}"),
            "sapwood.toml:6: mqtt.bridge.name: expected a name of its own, got \"b\" again",
        ),
        (
            format!("{BRIDGE}{topics}password = \"x\"\n"),
            "sapwood.toml:1: mqtt.bridge.username: expected one beside the password",
        ),
        (
            format!("{BRIDGE}{topics}username = \"x\"\npassword = \"x\"\npassword_file = \"y\"\n"),
            "sapwood.toml:7: mqtt.bridge.password_file: there is a password, too: say one of them",
        ),
        (
            format!("{BRIDGE}{topics}adress = \"x\"\n"),
            "sapwood.toml:5: unknown key mqtt.bridge.adress; did you mean mqtt.bridge.address?",
        ),
        (
            format!("{BRIDGE}topics = [{{ direction = \"up\" }}]\n"),
            "sapwood.toml:4: mqtt.bridge.topics.direction: expected one of \"in\", \"out\", \"both\", got \"up\"",
        ),
    ] {
        assert_eq!(refused(&text), message, "{text}");
    }
}
