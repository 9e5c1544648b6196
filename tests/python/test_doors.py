"""Operations × doors × formats: what is written by one is seen through each other. The cells are those of docs/doors.md."""

import json
import os
import queue
import re
import threading
import unittest

import cbor2
import msgpack
import paho.mqtt.client as mqtt
import requests
import websocket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from server import ServerCase

PAGE = os.path.join(os.path.dirname(__file__), "../../docs/doors.md")
OPERATIONS = ["put", "merge", "delete", "publish", "watch"]
DOORS = ["HTTP", "events", "WebSocket", "MQTT"]
NOTHING = None
BEFORE = {"kept": True, "n": 1}
VALUE = {"f": 0.5, "list": [1, None, "x"], "n": 2, "text": "grüß dich", "nested": {"a": {"": -(2**53)}}}


class Format:
    def __init__(self, name, media_type, ending, encode, decode):
        self.name, self.media_type, self.ending = name, media_type, ending
        self.encode, self.decode = encode, decode


FORMATS = {
    one.name: one
    for one in [
        Format("JSON", "application/json", "", lambda value: json.dumps(value).encode(), json.loads),
        Format("CBOR", "application/cbor", ".cbor", cbor2.dumps, cbor2.loads),
        Format("MessagePack", "application/msgpack", ".msgpack", msgpack.packb, msgpack.unpackb),
    ]
}


def merged(before, patch):
    result = dict(before or {})
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


# --- who writes: each operation of each door


def by_http(case, operation, path, value, form):
    method = {"put": "PUT", "merge": "PATCH", "delete": "DELETE", "publish": "POST"}[operation]
    url = f"{case.url}{path}" + ("?publish" if operation == "publish" else "")
    headers = {"Accept": form.media_type}
    body = None
    if operation != "delete":
        headers["Content-Type"], body = form.media_type, form.encode(value)
    answer = requests.request(method, url, data=body, headers=headers, timeout=10)
    case.assertLess(answer.status_code, 300, answer.text)
    if operation == "publish":
        case.assertEqual(form.decode(answer.content), {"receivers": len(WATCHES)})


def by_websocket(case, operation, path, value, form):
    socket = websocket.create_connection(f"{case.ws}{path}/writer{form.ending}", timeout=10)
    command = {"id": 1, "op": {"merge": "patch"}.get(operation, operation), "path": path}
    if operation != "delete":
        command["value"] = value
    if form.name == "JSON":
        socket.send(json.dumps(command))
    else:
        socket.send_binary(form.encode(command))
    while (answer := form.decode(socket.recv())).get("id") != 1:
        pass
    case.assertIn("ok", answer)
    socket.close()


def by_mqtt(case, operation, path, value, form):
    client = connect(case)
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = form.media_type
    payload = b"" if operation == "delete" else form.encode(value)
    info = client.publish(path[1:], payload, qos=1, retain=operation != "publish", properties=properties)
    info.wait_for_publish(10)
    case.assertTrue(info.is_published())
    stop(client)


# The cells of what writes: operation and door, and by what.
WRITES = {
    ("put", "HTTP"): by_http,
    ("put", "WebSocket"): by_websocket,
    ("put", "MQTT"): by_mqtt,
    ("merge", "HTTP"): by_http,
    ("merge", "WebSocket"): by_websocket,
    ("delete", "HTTP"): by_http,
    ("delete", "WebSocket"): by_websocket,
    ("delete", "MQTT"): by_mqtt,
    ("publish", "HTTP"): by_http,
    ("publish", "WebSocket"): by_websocket,
    ("publish", "MQTT"): by_mqtt,
}


def connect(case):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", case.mqtt_port)
    client.loop_start()
    assert connected.wait(10), "no CONNACK"
    return client


def stop(client):
    client.disconnect()
    client.loop_stop()


# --- who watches: each is told ("state", value) or ("message", value)


class Told:
    """Turns the events of a path into states and messages."""

    def __init__(self, path):
        self.path, self.state = path, NOTHING

    def take(self, event):
        kind, value = event["type"], event.get("value")
        assert event["path"] == self.path, event
        if kind == "message":
            return ("message", value)
        if kind == "patch":
            self.state = merged(self.state, value)
        else:
            assert kind in ("put", "delete"), event
            self.state = value
        return ("state", self.state)


class EventsWatch:
    def __init__(self, case, path, form):
        self.told = Told(path)
        headers = {"Accept": "text/event-stream"}
        self.answer = requests.get(f"{case.url}{path}", headers=headers, stream=True, timeout=10)
        self.lines = self.answer.iter_lines(chunk_size=1)

    def next(self):
        for line in self.lines:
            if line.startswith(b"data:"):
                return self.told.take(json.loads(line[5:]))
        raise AssertionError("the stream ended")

    def close(self):
        self.answer.close()


class WebSocketWatch:
    def __init__(self, case, path, form):
        self.told, self.form = Told(path), form
        self.socket = websocket.create_connection(f"{case.ws}{path}{form.ending}", timeout=10)

    def next(self):
        opcode, data = self.socket.recv_data()
        binary = self.form.name != "JSON"
        assert opcode == (websocket.ABNF.OPCODE_BINARY if binary else websocket.ABNF.OPCODE_TEXT)
        return self.told.take(self.form.decode(data))

    def close(self):
        self.socket.close()


class MqttWatch:
    """A record of that path, or nothing as long as there is none: MQTT says that by silence."""

    def __init__(self, case, path, form):
        self.form, self.messages = form, queue.Queue()
        self.client = connect(case)
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _client, _data, message: self.messages.put(message)
        properties = Properties(PacketTypes.SUBSCRIBE)
        properties.UserProperty = ("accept", form.media_type)
        options = SubscribeOptions(qos=1, retainAsPublished=True)
        self.client.subscribe(path[1:], options=options, properties=properties)
        assert subscribed.wait(10), "no SUBACK"

    def next(self):
        message = self.messages.get(timeout=10)
        kind = "state" if message.retain else "message"
        if not message.payload:
            return (kind, NOTHING)
        assert message.properties.ContentType == self.form.media_type, message.properties
        return (kind, self.form.decode(message.payload))

    def close(self):
        stop(self.client)


# The cells of who watches.
WATCHES = {
    ("events", "JSON"): EventsWatch,
    ("WebSocket", "JSON"): WebSocketWatch,
    ("WebSocket", "CBOR"): WebSocketWatch,
    ("WebSocket", "MessagePack"): WebSocketWatch,
    ("MQTT", "JSON"): MqttWatch,
    ("MQTT", "CBOR"): MqttWatch,
    ("MQTT", "MessagePack"): MqttWatch,
}


class Doors(ServerCase):
    def watch_all(self, path):
        watches = {}
        for (door, name), watch in WATCHES.items():
            watches[door, name] = watch(self, path, FORMATS[name])
            self.addCleanup(watches[door, name].close)
        return watches

    def all_are_told(self, watches, expected):
        for cell, watch in watches.items():
            self.assertEqual(watch.next(), expected, cell)

    def all_read(self, path, expected):
        for form in FORMATS.values():
            answer = requests.get(f"{self.url}{path}", headers={"Accept": form.media_type}, timeout=10)
            if expected is NOTHING:
                self.assertEqual(answer.status_code, 404)
            else:
                self.assertEqual(form.decode(answer.content), expected, form.name)

    def written_by(self, operation, door, form):
        """One cell: written here, seen by every watch and read in every format."""
        path = f"/doors/{operation}-{door}-{form.name}"
        requests.put(self.url + path, json=BEFORE, timeout=10)
        watches = self.watch_all(path)
        self.all_are_told(watches, ("state", BEFORE))
        value = {"n": None, "new": VALUE} if operation == "merge" else VALUE
        WRITES[operation, door](self, operation, path, value, form)
        after = {"put": VALUE, "merge": merged(BEFORE, value), "delete": NOTHING, "publish": BEFORE}[operation]
        told = ("message", VALUE) if operation == "publish" else ("state", after)
        self.all_are_told(watches, told)
        self.all_read(path, after)

    def watched_by(self, door, form):
        """One cell: the state first, then what each door writes in each format, in order."""
        path = f"/doors/watch-{door}-{form.name}"
        requests.put(self.url + path, json=BEFORE, timeout=10)
        watch = WATCHES[door, form.name](self, path, form)
        self.addCleanup(watch.close)
        self.assertEqual(watch.next(), ("state", BEFORE))
        n = 10
        for writer in [writer for operation, writer in WRITES if operation == "put"]:
            for other in FORMATS.values():
                n += 1
                WRITES["put", writer](self, "put", path, {**VALUE, "n": n}, other)
                self.assertEqual(watch.next(), ("state", {**VALUE, "n": n}), (writer, other.name))

    def test_the_manual_s_table_has_these_cells(self):
        with open(PAGE, encoding="utf-8") as page:
            rows = [line.strip("|\n ").split(" | ") for line in page if line.startswith("|")]
        self.assertEqual([cell.strip() for cell in rows[0]], ["operation", *DOORS])
        told = {}
        for operation, *cells in rows[2:]:
            for door, cell in zip(DOORS, cells, strict=True):
                names = re.findall("JSON|CBOR|MessagePack", cell.rpartition(":")[2])
                self.assertTrue(names or cell.strip() == "–", cell)
                told[operation.strip(), door] = names
        here = {(operation, door): [] for operation in OPERATIONS for door in DOORS}
        for operation, door in WRITES:
            here[operation, door] = list(FORMATS)
        for door, name in WATCHES:
            here["watch", door].append(name)
        self.assertEqual(told, here)

    def test_events_can_only_be_read(self):
        headers = {"Accept": "text/event-stream"}
        for method in ["PUT", "PATCH", "POST", "DELETE"]:
            answer = requests.request(method, f"{self.url}/doors/events", json=1, headers=headers, timeout=10)
            self.assertFalse(answer.headers.get("Content-Type", "").startswith("text/event-stream"), method)

    def test_an_ending_names_a_format_that_events_do_not_have(self):
        requests.put(f"{self.url}/doors/ending", json=VALUE, timeout=10)
        headers = {"Accept": "text/event-stream"}
        for form in [FORMATS["CBOR"], FORMATS["MessagePack"]]:
            answer = requests.get(f"{self.url}/doors/ending{form.ending}", headers=headers, timeout=10)
            self.assertEqual(answer.headers["Content-Type"], form.media_type)
            self.assertEqual(form.decode(answer.content), VALUE)

    def test_mqtt_has_no_merge_a_put_is_the_whole(self):
        requests.put(f"{self.url}/doors/no-merge", json=BEFORE, timeout=10)
        by_mqtt(self, "put", "/doors/no-merge", {"new": 1}, FORMATS["JSON"])
        self.all_read("/doors/no-merge", {"new": 1})


def cell(check, *arguments):
    return lambda case: check(case, *arguments)


# A test for each cell.
for operation, door in WRITES:
    for form in FORMATS.values():
        name = f"test_{operation}_by_{door}_in_{form.name}_is_seen_by_all"
        setattr(Doors, name, cell(Doors.written_by, operation, door, form))
for door, name in WATCHES:
    setattr(Doors, f"test_watch_by_{door}_in_{name}_sees_all", cell(Doors.watched_by, door, FORMATS[name]))


if __name__ == "__main__":
    unittest.main()
