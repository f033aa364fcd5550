import os
import pty
import subprocess
import sys

SHOW = """
from bestiary.hub.progress import standard_progress
progress = standard_progress()
progress.begin("model[bold].bin", 4_000_000)
progress.end()
progress.begin("model[bold].bin", 4_000_000)
progress.at(1_000_000)
progress.at(4_000_000)
progress.end()
"""


def test_a_person_at_a_terminal_sees_a_bar() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", SHOW], stderr=theirs, stdout=subprocess.PIPE, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert shown.count("\n") == 1 and done.stdout == b""  # one line, and none for what was here already
    assert "model[bold].bin" in shown and "4.0/4.0 MB" in shown


def test_elsewhere_nothing_is_shown_and_rich_not_imported() -> None:
    program = SHOW + "import sys; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"False\n", b"")


COUNT = """
from bestiary.hub.progress import counted
print(sum(counted(range(5), "pictures[bold]", 5)))
"""


def test_long_work_is_counted_where_a_person_watches() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", COUNT], stderr=theirs, stdout=subprocess.PIPE, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.stdout == b"10\n" and "pictures[bold]" in shown and "5/5" in shown
    quiet = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, check=True)
    assert (quiet.stdout, quiet.stderr) == (b"10\n", b"")
