"""PyPI `paho-mqtt` 2, the MQTT client of most Python programs: 3.1.1 and 5."""

import json
import queue
import threading

import paho.mqtt.client as mqtt
import requests
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from server import ServerCase

VERSIONS = [mqtt.MQTTv31, mqtt.MQTTv311, mqtt.MQTTv5]


class Client:
    """A paho client whose messages can be awaited."""

    def __init__(self, case, version=mqtt.MQTTv5, client_id="", clean=True, expiry=0, configure=None):
        self.messages, self.ends = queue.Queue(), queue.Queue()
        self.flags = None
        options = {} if version == mqtt.MQTTv5 else {"clean_session": clean}
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, **options)
        connected, subscribed = threading.Event(), queue.Queue()

        def on_connect(_client, _data, flags, reason, _properties):
            self.flags, self.reason = flags, reason
            connected.set()

        self.mqtt.on_connect = on_connect
        self.mqtt.on_subscribe = lambda _c, _d, _mid, reasons, _p: subscribed.put(reasons)
        self.mqtt.on_message = lambda _c, _d, message: self.messages.put(message)
        self.mqtt.on_disconnect = lambda _c, _d, _flags, reason, _p: self.ends.put(reason)
        self.subscribed = subscribed
        if configure:
            configure(self.mqtt)
        arguments = {}
        if version == mqtt.MQTTv5:
            arguments["clean_start"] = clean
            if expiry:
                arguments["properties"] = Properties(PacketTypes.CONNECT)
                arguments["properties"].SessionExpiryInterval = expiry
        self.mqtt.connect("127.0.0.1", case.mqtt_port, **arguments)
        self.mqtt.loop_start()
        assert connected.wait(10), "no CONNACK"
        case.addCleanup(self.stop)

    def stop(self):
        self.mqtt.disconnect()
        self.mqtt.loop_stop()

    def subscribe(self, *arguments, **options):
        self.mqtt.subscribe(*arguments, **options)
        return self.subscribed.get(timeout=10)

    def publish(self, *arguments, **options):
        info = self.mqtt.publish(*arguments, **options)
        info.wait_for_publish(10)
        assert info.is_published()

    def next(self):
        return self.messages.get(timeout=10)


class Paho(ServerCase):
    def test_every_version_and_every_qos_goes_both_ways(self):
        for version in VERSIONS:
            client, other = Client(self, version, f"paho{version}"), Client(self)
            client.subscribe("paho-qos/#", 2)
            for qos in [0, 1, 2]:
                other.publish("paho-qos/in", f"in {qos}", qos)
                message = client.next()
                self.assertEqual((message.topic, message.payload, message.qos), ("paho-qos/in", b"in %d" % qos, qos))
                client.publish("paho-qos/out", f"out {qos}", qos)
                self.assertEqual(client.next().qos, qos)

    def test_a_retained_message_is_a_record_and_a_record_a_retained_message(self):
        client = Client(self)
        client.publish("paho/lamp", json.dumps({"on": True}), 1, retain=True)
        self.assertEqual(requests.get(f"{self.url}/paho/lamp").json(), {"on": True})
        requests.put(f"{self.url}/paho/lamp/on", json=False)
        client.subscribe("paho/lamp", 1)
        message = client.next()
        self.assertEqual((json.loads(message.payload), message.retain), ({"on": False}, True))
        requests.put(f"{self.url}/paho/lamp", json={"on": 1})
        message = client.next()
        self.assertEqual((json.loads(message.payload), message.retain), ({"on": 1}, False))
        requests.delete(f"{self.url}/paho/lamp")
        self.assertEqual(client.next().payload, b"")

    def test_bytes_come_back_to_the_byte(self):
        client = Client(self)
        payload = bytes(range(256)) * 100
        client.subscribe("paho/bytes", 1)
        client.publish("paho/bytes", payload, 1, retain=True)
        self.assertEqual(client.next().payload, payload)
        self.assertEqual(requests.get(f"{self.url}/paho/bytes", headers={"Accept": "*/*"}).content, payload)

    def test_properties_and_subscription_options(self):
        client, other = Client(self), Client(self)
        properties = Properties(PacketTypes.SUBSCRIBE)
        properties.SubscriptionIdentifier = 7
        options = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True)
        client.subscribe("paho/options", options=options, properties=properties)
        client.publish("paho/options", "own", 1)
        sent = Properties(PacketTypes.PUBLISH)
        sent.ContentType, sent.ResponseTopic, sent.CorrelationData = "text/plain", "paho/answer", b"1"
        sent.UserProperty = [("a", "1"), ("a", "2")]
        sent.MessageExpiryInterval = 60
        other.publish("paho/options", "theirs", 1, retain=True, properties=sent)
        message = client.next()
        self.assertEqual((message.payload, message.retain), (b"theirs", True))
        got = message.properties
        self.assertEqual(got.SubscriptionIdentifier, [7])
        self.assertEqual((got.ContentType, got.UserProperty), ("text/plain", [("a", "1"), ("a", "2")]))

    def test_a_kept_session_gets_what_it_missed(self):
        for version in [mqtt.MQTTv311, mqtt.MQTTv5]:
            client_id = f"kept{version}"
            client = Client(self, version, client_id, clean=False, expiry=60)
            self.assertFalse(client.flags.session_present)
            client.subscribe(f"paho/{client_id}", 2)
            client.stop()
            other = Client(self)
            for n in range(5):
                other.publish(f"paho/{client_id}", str(n), 2)
            client = Client(self, version, client_id, clean=False, expiry=60)
            self.assertTrue(client.flags.session_present)
            self.assertEqual([client.next().payload for _ in range(5)], [b"0", b"1", b"2", b"3", b"4"])

    def test_a_will_comes_when_the_socket_breaks(self):
        witness = Client(self)
        witness.subscribe("paho/gone", 1)
        client = Client(self, configure=lambda c: c.will_set("paho/gone", "dead", 1, retain=True))
        client.mqtt.socket().shutdown(2)
        self.assertEqual(witness.next().payload, b"dead")
        self.assertEqual(requests.get(f"{self.url}/paho/gone").json(), "dead")

    def test_who_comes_with_the_same_id_takes_over(self):
        first = Client(self, client_id="same", configure=lambda c: c.reconnect_delay_set(60, 60))
        Client(self, client_id="same")
        self.assertEqual(first.ends.get(timeout=10).value, 0x8E)
