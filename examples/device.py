"""A thermostat that speaks MQTT: readings, availability and Home Assistant's discovery are retained, commands come by `…/set`.

    pip install paho-mqtt
    python device.py --host localhost --port 1883 --name kitchen
"""

import argparse
import json
import signal
import threading

import paho.mqtt.client as mqtt


class Thermostat:
    """A room that slowly gets as warm as somebody wants it."""

    def __init__(self, target):
        self.temperature, self.target = 19.0, target

    def step(self):
        difference = self.target - self.temperature
        self.temperature = round(self.temperature + max(-0.5, min(0.5, difference)), 2)

    def reading(self):
        return {"temperature": self.temperature, "target": self.target}


class Device:
    def __init__(self, options):
        self.name, self.every_s = options.name, options.every
        self.topic = f"home/{self.name}"
        self.thermostat = Thermostat(options.target)
        self.stopped = threading.Event()
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"thermostat-{self.name}")
        # What others read when this program, or its network, fails.
        self.mqtt.will_set(f"{self.topic}/availability", "offline", qos=1, retain=True)
        self.mqtt.reconnect_delay_set(min_delay=1, max_delay=30)
        self.mqtt.on_connect = self.connected
        self.mqtt.on_message = self.told
        self.mqtt.connect_async(options.host, options.port, keepalive=30)

    def connected(self, client, _data, _flags, reason, _properties):
        """Also after each reconnect: what is subscribed to and retained is said again."""
        if reason.is_failure:
            print(f"refused: {reason}", flush=True)
            return
        client.subscribe(f"{self.topic}/set", qos=1)
        self.retain("availability", "online")
        discovery = {
            "name": self.name,
            "unique_id": f"thermostat-{self.name}",
            "current_temperature_topic": self.topic,
            "current_temperature_template": "{{ value_json.temperature }}",
            "temperature_state_topic": self.topic,
            "temperature_state_template": "{{ value_json.target }}",
            "temperature_command_topic": f"{self.topic}/set",
            "availability_topic": f"{self.topic}/availability",
        }
        topic = f"homeassistant/climate/{self.name}/config"
        client.publish(topic, json.dumps(discovery), qos=1, retain=True)
        self.report()
        print(f"connected: {self.topic}", flush=True)

    def told(self, _client, _data, message):
        """A command: `{"target": 21}`, or just `21`."""
        try:
            command = json.loads(message.payload)
            target = float(command["target"] if isinstance(command, dict) else command)
        except (ValueError, KeyError, TypeError) as error:
            print(f"not a command: {message.payload!r}: {error!r}", flush=True)
            return
        self.thermostat.target = max(5.0, min(30.0, target))
        self.report()

    def report(self):
        self.mqtt.publish(self.topic, json.dumps(self.thermostat.reading()), qos=1, retain=True)

    def retain(self, name, payload):
        return self.mqtt.publish(f"{self.topic}/{name}", payload, qos=1, retain=True)

    def run(self):
        self.mqtt.loop_start()
        while not self.stopped.wait(self.every_s):
            before = self.thermostat.temperature
            self.thermostat.step()
            if self.thermostat.temperature != before:
                self.report()
        # Who leaves well says so itself: with DISCONNECT the will is void.
        if self.mqtt.is_connected():
            self.retain("availability", "offline").wait_for_publish(5)
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--name", default="kitchen")
    parser.add_argument("--target", type=float, default=21.0, help="°C to begin with")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between readings")
    device = Device(parser.parse_args())
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: device.stopped.set())
    device.run()


if __name__ == "__main__":
    main()
