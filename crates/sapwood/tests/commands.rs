//! What the commands say, and the codes that they end with.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::{
    io::Write,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use sapwood_testkit::{FLUSH_MS_VARIABLE, ServerBuilder, SmallDisk, slow_flush_library};

const BINARY: &str = env!("CARGO_BIN_EXE_sapwood");

fn sapwood(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Runs a command that must fail: its exit code, and what it says.
fn fails(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = sapwood(folder, arguments);
    assert!(!output.status.success(), "{arguments:?} should fail");
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn dev_stays_on_this_machine_and_names_the_command_that_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = fails(folder.path(), &["dev", "--memory", "--http", "0.0.0.0:0"]);
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("sapwood serve --open --http 0.0.0.0:0"),
        "{text}"
    );
}

#[test]
fn serve_does_not_start_unless_it_is_told_that_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = fails(folder.path(), &["serve", "--memory", "--http", ":0"]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("sapwood serve --open"), "{text}");
}

#[test]
fn a_port_in_use_is_named_with_the_way_to_choose_another() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, text) = fails(folder.path(), &["dev", "--memory", "--http", &address]);
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains(&taken.local_addr().unwrap().port().to_string()),
        "{text}"
    );
    assert!(text.contains("--http :0"), "{text}");
}

#[test]
fn a_second_process_on_the_folder_is_refused() {
    let server = ServerBuilder::dev(BINARY).start().unwrap();
    let data = server.data().to_str().unwrap();
    let (code, text) = fails(server.data(), &["dev", "--data", data, "--http", ":0"]);
    assert_eq!(code, 4, "{text}");
    assert!(text.contains(data), "{text}");
}

/// Starts on a data folder that must be refused: what it says.
fn refused(data: &Path) -> String {
    let arguments = ["dev", "--data", data.to_str().unwrap(), "--http", ":0"];
    let (code, text) = fails(data.parent().unwrap(), &arguments);
    assert_eq!(code, 4, "{text}");
    text
}

/// A data folder that was used and left in good order.
fn used_folder(folder: &Path) -> std::path::PathBuf {
    let data = folder.join("data");
    let mut server = ServerBuilder::dev(BINARY).data(&data).start().unwrap();
    for n in 0..50 {
        assert_eq!(
            server
                .client()
                .unwrap()
                .put(&format!("/a/{n}"), "\"value\"")
                .unwrap()
                .status,
            201
        );
    }
    assert!(server.terminate().unwrap().success());
    data
}

#[test]
fn a_folder_of_a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = used_folder(folder.path());
    let format = std::fs::read_to_string(data.join("FORMAT")).unwrap();
    let newer = format.replace("version 1\n", "version 999\n");
    assert_ne!(newer, format);
    std::fs::write(data.join("FORMAT"), newer).unwrap();
    let text = refused(&data);
    assert!(
        text.contains("format 999") && text.contains("newer"),
        "{text}"
    );
}

#[test]
fn a_damaged_log_stops_the_start_with_the_file_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = used_folder(folder.path());
    let log = data.join("databases/default/log");
    let segment = std::fs::read_dir(log)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let segment = segment
        .filter(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .min()
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[written / 2] ^= 0x10;
    std::fs::write(&segment, bytes).unwrap();
    let text = refused(&data);
    assert!(
        text.contains(segment.file_name().unwrap().to_str().unwrap()),
        "{text}"
    );
}

#[test]
fn a_read_only_disk_is_told_as_such() {
    let disk = match SmallDisk::mount(32 << 20) {
        Ok(disk) => disk,
        Err(error) => {
            // Past the test runner's capture, so that it is seen and counted.
            writeln!(std::io::stderr(), "skipped: read_only_disk: {error:#}").unwrap();
            return;
        }
    };
    disk.make_read_only().unwrap();
    let data = disk.path().join("data");
    let (code, text) = fails(
        Path::new("/"),
        &["dev", "--data", data.to_str().unwrap(), "--http", ":0"],
    );
    assert_eq!(code, 4, "{text}");
    assert!(
        text.contains(data.to_str().unwrap()) && text.to_lowercase().contains("read-only"),
        "{text}"
    );
}

#[test]
fn a_slip_in_the_configuration_is_told_with_its_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("sapwood.toml"),
        "[store]\n\ncache_byte = 5\n",
    )
    .unwrap();
    let (code, text) = fails(folder.path(), &["dev", "--memory", "--http", ":0"]);
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains(
            "sapwood.toml:3: unknown key store.cache_byte; did you mean store.cache_bytes?"
        ),
        "{text}"
    );
}

#[test]
fn config_prints_every_value_with_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("sapwood.toml"),
        "[store]\ncache_bytes = 5\n",
    )
    .unwrap();
    let output = Command::new(BINARY)
        .args(["config", "--memory", "--set", "log.filter=warn"])
        .env("SAPWOOD_LOG_FORMAT", "json")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for (start, origin) in [
        ("store.cache_bytes = 5", "# sapwood.toml:2"),
        ("store.durability = \"memory\"", "# --memory"),
        ("log.filter = \"warn\"", "# --set log.filter=warn"),
        ("log.format = \"json\"", "# environment SAPWOOD_LOG_FORMAT"),
        ("store.data = \".sapwood\"", "# default"),
    ] {
        assert!(
            text.lines()
                .any(|line| line.starts_with(start) && line.ends_with(origin)),
            "{start}: {text}"
        );
    }
}

#[test]
fn version_names_the_program_and_its_version() {
    let output = sapwood(Path::new("."), &["--version"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim(),
        concat!("sapwood ", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_drain_tells_the_clients_and_ends_well_while_streams_are_open() {
    let mut server = ServerBuilder::dev(BINARY).start().unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.put("/drain/a", "1").unwrap().status, 201);
    let mut stream = server.client().unwrap().events("/drain/a", &[]).unwrap();
    assert!(stream.data().unwrap().contains("\"value\":1"));
    let status = server.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log().unwrap());
    assert!(stream.data().is_err(), "the stream has ended");
    server.start_again().unwrap();
    assert_eq!(
        server
            .client()
            .unwrap()
            .get("/drain/a")
            .unwrap()
            .text()
            .trim(),
        "1"
    );
}

#[test]
fn serve_says_at_every_start_that_it_is_open() {
    let mut server = ServerBuilder::serve_open(BINARY).start().unwrap();
    server.prints("open: there are no rules").unwrap();
    server.logs("open: there are no rules").unwrap();
    server.terminate().unwrap();
    server.start_again().unwrap();
    server.prints("open: there are no rules").unwrap();
}

#[test]
fn mqtt_goes_on_to_the_next_port_in_dev_and_says_so() {
    // Servers of other tests may have it for a while; a program that keeps it is as good as this one.
    let until = Instant::now() + Duration::from_secs(10);
    let _taken = loop {
        let taken = TcpListener::bind("127.0.0.1:1883");
        if taken.is_ok() || Instant::now() > until {
            break taken;
        }
        std::thread::yield_now();
    };
    let server = ServerBuilder::dev(BINARY).start().unwrap();
    let line = server.prints("mqtt://127.0.0.1:").unwrap();
    assert!(!line.contains(":1883"), "{line}");
    server.prints("mosquitto_sub -h 127.0.0.1 -p ").unwrap();
    server.logs("port 1883 is in use").unwrap();
}

#[test]
fn mqtt_listens_where_it_is_told_and_nowhere_else() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = fails(
        folder.path(),
        &["dev", "--memory", "--http", ":0", "--mqtt", &address],
    );
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("--mqtt :0"), "{text}");
    let (code, text) = fails(
        folder.path(),
        &["dev", "--memory", "--http", ":0", "--mqtt", "0.0.0.0:0"],
    );
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("sapwood serve --open --mqtt 0.0.0.0"),
        "{text}"
    );
    let server = ServerBuilder::dev(BINARY)
        .argument("--mqtt")
        .argument("off")
        .start()
        .unwrap();
    server.prints("durability").unwrap();
    assert!(!server.log().unwrap().contains("\"mqtt\""));
    let server = ServerBuilder::serve_open(BINARY)
        .argument("--mqtt")
        .argument(":0")
        .start()
        .unwrap();
    server.prints("mqtt://127.0.0.1:").unwrap();
}

#[test]
fn dev_prints_how_each_database_is_named_and_what_an_answer_means() {
    let server = ServerBuilder::dev(BINARY)
        .set("databases.staging={}")
        .start()
        .unwrap();
    server.prints("?ns=staging").unwrap();
    server.prints("durability sync").unwrap();
    let port = server.address().port();
    let mut client = server.client().unwrap();
    assert_eq!(client.put("/a/b?ns=staging", "1").unwrap().status, 201);
    let host = format!("staging.localhost:{port}");
    let request = format!("GET /a/b HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.send_raw(request.as_bytes()).unwrap();
    assert_eq!(client.response(false).unwrap().text().trim(), "1");
}

#[test]
fn files_are_served_as_they_come_and_go_and_what_they_hide_is_said() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("here.txt"), "a file").unwrap();
    std::fs::write(folder.path().join("secret"), "outside").unwrap();
    let public = folder.path().join("public");
    std::fs::create_dir(&public).unwrap();
    std::fs::write(public.join("page.html"), "<h1>page</h1>").unwrap();
    let server = ServerBuilder::dev(BINARY)
        .argument("--public")
        .argument(&public)
        .start()
        .unwrap();
    server.logs("page.html").unwrap();
    let mut client = server.client().unwrap();
    let page = client.get("/page.html").unwrap();
    assert_eq!(page.text(), "<h1>page</h1>");
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    for escape in [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/page.html/../../secret",
    ] {
        assert!(
            !client.get(escape).unwrap().text().contains("outside"),
            "{escape}"
        );
    }
    assert_eq!(client.put("/late.txt", "\"tree\"").unwrap().status, 201);
    std::fs::write(public.join("late.txt"), "file").unwrap();
    server.logs("hides what the tree holds").unwrap();
    assert_eq!(client.get("/late.txt").unwrap().text(), "file");
    std::fs::remove_file(public.join("late.txt")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.get("/late.txt").unwrap().text().trim() != "\"tree\"" {
        assert!(
            Instant::now() < deadline,
            "the file is gone, and still hides the tree"
        );
    }
}

#[test]
fn a_folder_of_files_that_is_made_after_the_start_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sapwood.toml");
    std::fs::write(&file, "").unwrap();
    let server = ServerBuilder::dev(BINARY)
        .argument("--config")
        .argument(&file)
        .start()
        .unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.get("/counter.html").unwrap().status, 404);
    let public = folder.path().join("public");
    std::fs::create_dir(&public).unwrap();
    std::fs::write(public.join("counter.html"), "<h1>counter</h1>").unwrap();
    server.logs("\"names\":\"/counter.html\"").unwrap();
    let page = client.get("/counter.html").unwrap();
    assert_eq!(page.text(), "<h1>counter</h1>");
}

#[test]
fn each_refused_request_has_a_line_with_its_code_and_its_number() {
    let server = ServerBuilder::dev(BINARY)
        .set("http.head_timeout_s=1")
        .start()
        .unwrap();
    let long = "x".repeat(70_000);
    let host = "Host: localhost\r\n";
    for (request, status, code) in [
        ("HELLO\r\n\r\n".to_owned(), 400, "bad_request"),
        (format!("GET / HTTP/1.1\n{host}\n"), 400, "bad_framing"),
        (format!("GET /{long}"), 414, "target_too_long"),
        (
            format!("GET / HTTP/1.1\r\nA: {long}"),
            431,
            "head_too_large",
        ),
        (
            format!("GET / HTTP/1.2\r\n{host}\r\n"),
            505,
            "version_not_supported",
        ),
        ("GET / HTTP/1.1\r\n".to_owned(), 408, "head_timeout"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_host"),
        (
            format!("GET /none HTTP/1.1\r\n{host}\r\n"),
            404,
            "not_found",
        ),
    ] {
        let mut client = server.client().unwrap();
        let good = format!("GET /healthz HTTP/1.1\r\n{host}\r\n");
        client.send_raw(good.as_bytes()).unwrap();
        assert_eq!(client.response(false).unwrap().status, 200);
        client.send_raw(request.as_bytes()).unwrap();
        assert_eq!(client.response(false).unwrap().status, status, "{code}");
        let line = server.logs(&format!("\"code\":\"{code}\"")).unwrap();
        for part in [
            &*format!("\"status\":{status}"),
            "\"peer\":\"127.",
            "\"connection\":",
            "\"request\":2",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}

#[test]
fn the_short_names_can_be_freed_for_data() {
    let server = ServerBuilder::dev(BINARY)
        .set("http.bare_names=false")
        .start()
        .unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.put("/metrics", "1").unwrap().status, 201);
    assert_eq!(client.get("/metrics").unwrap().text().trim(), "1");
    assert!(
        client
            .get("/.sapwood/metrics")
            .unwrap()
            .text()
            .contains("sapwood_")
    );
}

#[test]
fn a_slow_disk_is_only_slow() {
    let folder = tempfile::tempdir().unwrap();
    let library = slow_flush_library(folder.path()).unwrap();
    let server = ServerBuilder::dev(BINARY)
        .environment("LD_PRELOAD", library)
        .environment(FLUSH_MS_VARIABLE, "5")
        .start()
        .unwrap();
    assert_eq!(
        server.client().unwrap().put("/a/b", "1").unwrap().status,
        201
    );
    assert!(!server.log().unwrap().contains("cannot be preloaded"));
}

#[test]
fn in_memory_nothing_is_written_to_disk() {
    let mut server = ServerBuilder::serve_open(BINARY)
        .set("store.durability=memory")
        .start()
        .unwrap();
    assert_eq!(
        server.client().unwrap().put("/a/b", "1").unwrap().status,
        201
    );
    assert!(!server.data().exists());
    assert!(server.terminate().unwrap().success());
}

#[test]
fn databases_are_trees_of_their_own() {
    let server = ServerBuilder::dev(BINARY)
        .set("databases.staging={}")
        .start()
        .unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.put("/a/b?ns=staging", "1").unwrap().status, 201);
    assert_eq!(client.get("/a/b").unwrap().status, 404);
    assert_eq!(client.get("/a/b?ns=staging").unwrap().status, 200);
    assert_eq!(client.get("/a/b?ns=default").unwrap().status, 404);
    assert_ne!(client.get("/a/b?ns=nosuch").unwrap().status, 200);
}

#[test]
fn a_declared_resource_is_a_record_whoever_writes_it() {
    let server = ServerBuilder::dev(BINARY)
        .set("databases.default.resources.\"a/{id}\"={}")
        .start()
        .unwrap();
    let mut stream = server.client().unwrap().events("/a/1", &[]).unwrap();
    assert!(
        stream.data().unwrap().contains("\"id\":\"1\""),
        "a declared path gets record events"
    );
}

/// A server with MQTT, and its URL there.
fn with_mqtt() -> (sapwood_testkit::Server, String) {
    let server = ServerBuilder::dev(BINARY)
        .argument("--mqtt")
        .argument(":0")
        .start()
        .unwrap();
    let printed = server.prints("mqtt://").unwrap();
    let url = printed
        .split_whitespace()
        .find(|word| word.starts_with("mqtt://"))
        .unwrap()
        .to_owned();
    (server, url)
}

#[test]
fn import_takes_over_what_is_there_and_tells_how_much() {
    let ((old, from), (new, to)) = (with_mqtt(), with_mqtt());
    for n in 0..300 {
        old.client().unwrap().put(&format!("/a/{n}"), "1").unwrap();
    }
    old.client().unwrap().put("/b", "{\"c\": 2}").unwrap();
    let arguments = [
        "import", &from, "--to", &to, "--quiet", "1", "--prefix", "old/",
    ];
    let output = sapwood(new.data(), &arguments);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("301 retained messages") && told.contains("; 0 refused"),
        "{told}"
    );
    let read = |target: &str| new.client().unwrap().get(target).unwrap().text();
    assert_eq!(read("/old/b"), "{\"c\":2}");
    assert_eq!(read("/old/a/299"), "1");
}

#[test]
fn import_names_what_was_refused_and_fails() {
    let ((old, from), (new, to)) = (with_mqtt(), with_mqtt());
    old.client().unwrap().put("/fine", "1").unwrap();
    let long = "x".repeat(700);
    old.client().unwrap().put(&format!("/{long}"), "1").unwrap();
    let prefix = "y".repeat(100);
    let arguments = [
        "import", &from, "--to", &to, "--quiet", "1", "--prefix", &prefix,
    ];
    let (code, told) = fails(new.data(), &arguments);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("1 messages were not taken"), "{told}");
    assert!(
        told.contains("TopicNameInvalid (0x90)") && told.contains("yyyxxx"),
        "{told}"
    );
    assert_eq!(
        new.client()
            .unwrap()
            .get(&format!("/{prefix}fine"))
            .unwrap()
            .text(),
        "1"
    );
}

#[test]
fn import_says_who_can_not_be_reached_and_what_is_no_address() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let from = format!("mqtt://{nobody}");
    let (code, told) = fails(folder.path(), &["import", &from, "--to", &from]);
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains(&from) && told.contains("can't reach it"),
        "{told}"
    );
    for (arguments, hint) in [
        (&["import", "mqtts://x"][..], "TLS is not there yet"),
        (&["import", "mqtt://me:word@x"], "without a user"),
        (
            &["import", "x", "--prefix", "#"],
            "--prefix: expected no + or #",
        ),
        (
            &[
                "import",
                "x",
                "--username",
                "me",
                "--password-file",
                "nowhere",
            ],
            "nowhere",
        ),
        (&["import"], "<URL>"),
    ] {
        let (code, told) = fails(folder.path(), arguments);
        assert_eq!(code, 2, "{told}");
        assert!(told.contains(hint), "{told}");
    }
}

#[test]
fn a_bridge_without_its_door_or_its_password_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sapwood.toml");
    let text = "[[mqtt.bridge]]\nname = \"b\"\naddress = \"x\"\ntopics = [{ filter = \"#\" }]\n";
    std::fs::write(&file, text).unwrap();
    let serve = ["serve", "--open", "--memory", "--http", ":0"];
    let (code, told) = fails(folder.path(), &serve);
    assert_eq!(code, 2, "{told}");
    assert!(
        told.contains("needs MQTT, which is off") && told.contains("--mqtt"),
        "{told}"
    );
    std::fs::write(
        &file,
        format!("{text}username = \"me\"\npassword_file = \"nowhere\"\n"),
    )
    .unwrap();
    let (code, told) = fails(
        folder.path(),
        &["dev", "--memory", "--http", ":0", "--mqtt", ":0"],
    );
    assert_eq!(code, 2, "{told}");
    assert!(
        told.contains("sapwood.toml:6: mqtt.bridge.password_file: can't read"),
        "{told}"
    );
}
