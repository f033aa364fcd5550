import subprocess
import sys

from tests.hub.faults.harness import Zoo


def test_a_blob_is_read_only_and_a_change_is_found(zoo: Zoo) -> None:
    path = zoo.fetch("honest").path
    assert path.stat().st_mode & 0o222 == 0
    # The administrator may write all the same.
    program = "import os, sys; os.chmod(sys.argv[1], 0o644); open(sys.argv[1], 'r+b').write(b'scribble')"
    subprocess.run([sys.executable, "-c", program, path], check=True)
    zoo.fetch("honest")
    (quarantined,) = zoo.quarantined()
    assert quarantined.startswith(b"scribble")
