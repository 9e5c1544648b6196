"""The real binary on a free port, with a data folder of its own."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("TESTED_BINARY", str(ROOT / "target" / "release" / "sapwood"))


class ServerCase(unittest.TestCase):
    """Tests that share one server: `self.url`, `self.ws`, `self.mqtt_port`."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="sapwood-test-")
        cls.log = open(os.path.join(cls.folder.name, "log"), "w")
        cls.process = subprocess.Popen(
            [BINARY, "dev", "--data", os.path.join(cls.folder.name, "data"), "--http", "127.0.0.1:0", "--mqtt", ":0"],
            cwd=cls.folder.name,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=cls.log,
            text=True,
        )
        printed = cls.process.stdout.readline()
        cls.url = re.search(r"http://[^/\s]+", printed).group()
        while not (mqtt := re.search(r"mqtt://[^/\s]+:(\d+)", printed)):
            printed = cls.process.stdout.readline()
        cls.mqtt_port = int(mqtt.group(1))
        cls.ws = cls.url.replace("http", "ws", 1)

    @classmethod
    def tearDownClass(cls):
        cls.process.terminate()
        code = cls.process.wait(timeout=20)
        cls.process.stdout.close()
        cls.log.close()
        cls.folder.cleanup()
        assert code == 0, f"the server ended with {code}"
